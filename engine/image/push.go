// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// PushOptions of Push.
type PushOptions struct {
	Auth     Auth
	Insecure bool // plain http and unverified certificates
	Progress func(Progress)
}

// Pushed is the manifest that Push left in the registry.
type Pushed struct {
	Digest digest.Digest
	Size   int64
}

// Push sends the image to the registry its name says, and answers its manifest. An image that was pulled goes out
// byte for byte as it came, so that its digest stays; others get gzip layers and Docker's manifest, which every registry takes.
func (s *Store) Push(ctx context.Context, ref string, o PushOptions) (Pushed, error) {
	normal, err := parseTag(ref)
	if err != nil {
		return Pushed{}, err
	}
	n, err := reference.ParseNormalizedNamed(normal)
	if err != nil {
		return Pushed{}, invalidName(ref, err)
	}
	h := s.newHold()
	defer h.release()
	img, layers, err := s.pushState(h, normal)
	if err != nil {
		return Pushed{}, err
	}
	d, err := s.push(ctx, n, img, layers, o)
	if err != nil {
		return Pushed{}, fmt.Errorf("push %s: %w", reference.FamiliarString(n), err)
	}
	return d, s.notePushed(img.ID, reference.FamiliarName(n)+"@"+d.Digest.String())
}

func (s *Store) pushState(h *hold, normal string) (*Image, []*layerRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img := s.images[s.names[normal]]
	if img == nil {
		return nil, nil, errs.New(errs.NotFound, "an image does not exist locally with the tag: %s", familiar(normal))
	}
	var layers []*layerRecord
	h.add(img.ID)
	for _, c := range img.chain {
		h.add(c)
		layers = append(layers, s.layers[c])
	}
	return img, layers, nil
}

func (s *Store) push(ctx context.Context, n reference.Named, img *Image, layers []*layerRecord, o PushOptions) (Pushed, error) {
	tmp, err := s.temp("push")
	if err != nil {
		return Pushed{}, err
	}
	defer s.discard(tmp)
	out := &outgoing{progress: serialise(o.Progress)}
	out.progress(Progress{Status: "The push refers to repository [" + n.Name() + "]"})
	if out.config, err = s.readBlob(img.ID, maxConfigSize); err != nil {
		return Pushed{}, err
	}
	if err := s.fill(ctx, out, tmp, img, layers); err != nil {
		return Pushed{}, err
	}
	ep := s.remote.endpoint(reference.Domain(n))
	ep.plain, ep.insecure = ep.plain || o.Insecure, ep.insecure || o.Insecure
	repo, err := openRepo(ctx, n, ep, o.Auth, "push,pull")
	if err != nil {
		return Pushed{}, err
	}
	tag, _ := target(n)
	core, err := partial.CompressedToImage(out)
	if err != nil {
		return Pushed{}, err
	}
	image := mountable{core, s.mountSources(repo, n, layers)}
	err = remote.Write(repo.repo.Tag(tag), image, remote.WithContext(ctx), remote.WithTransport(repo.client.Transport), remote.WithAuth(o.Auth.authenticator()))
	if err != nil {
		return Pushed{}, registryError(n, ep, err)
	}
	for _, l := range out.layers {
		l.finished()
	}
	return Pushed{digest.FromBytes(out.manifest), int64(len(out.manifest))}, nil
}

// notePushed adds the name the image now has in a registry.
func (s *Store) notePushed(id digest.Digest, repoDigest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	img := s.images[id]
	if img == nil || slices.Contains(img.RepoDigests, repoDigest) {
		return nil
	}
	rec := img.record
	rec.RepoDigests = mergeSorted(rec.RepoDigests, []string{repoDigest})
	_, err := s.writeRecord(rec)
	return err
}

// fill prepares manifest and layers.
func (s *Store) fill(ctx context.Context, out *outgoing, tmp string, img *Image, layers []*layerRecord) error {
	if m := img.record.Manifest; m != nil {
		ok, err := s.fillAsPulled(out, *m, layers)
		if ok || err != nil {
			return err
		}
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: dockerManifestType, Layers: []ocispec.Descriptor{},
		Config: ocispec.Descriptor{MediaType: dockerConfigType, Digest: img.ID, Size: int64(len(out.config))}}
	done := map[digest.Digest]ocispec.Descriptor{}
	for _, l := range layers {
		d, ok := done[l.DiffID]
		if !ok {
			file, desc, err := s.gzipLayer(ctx, tmp, l)
			if err != nil {
				return err
			}
			out.add(desc, file)
			done[l.DiffID], d = desc, desc
		}
		m.Layers = append(m.Layers, d)
	}
	var err error
	out.mediaType = dockerManifestType
	out.manifest, err = json.Marshal(m)
	return err
}

// fillAsPulled uses the manifest an image came with, if all its layers are still here as they came.
func (s *Store) fillAsPulled(out *outgoing, m blobRef, layers []*layerRecord) (bool, error) {
	raw, err := s.readBlob(m.Digest, maxManifestSize)
	if err != nil {
		return false, err
	}
	doc, err := parseManifest(raw, m.MediaType)
	if err != nil || len(doc.Layers) != len(layers) {
		return false, err
	}
	for i, d := range doc.Layers {
		if b := layers[i].Blob; b == nil || b.Digest != d.Digest {
			return false, nil
		}
	}
	for _, d := range doc.Layers {
		out.add(d, s.blobPath(d.Digest))
	}
	out.manifest, out.mediaType = raw, m.MediaType
	return true, nil
}

// gzipLayer is the layer as a gzip file: the blob it came as, or one made now.
func (s *Store) gzipLayer(ctx context.Context, tmp string, l *layerRecord) (string, ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: dockerLayerType}
	if b := l.Blob; b != nil && (b.MediaType == ocispec.MediaTypeImageLayerGzip || b.MediaType == dockerLayerType) {
		d.Digest, d.Size = b.Digest, b.Size
		return s.blobPath(b.Digest), d, nil
	}
	in, err := s.openLayer(ctx, l)
	if err != nil {
		return "", d, err
	}
	defer in.Close()
	f, err := os.CreateTemp(tmp, "layer-*")
	if err != nil {
		return "", d, err
	}
	defer f.Close()
	sum := &countWriter{hash: digest.SHA256.Digester()}
	z := gzip.NewWriter(io.MultiWriter(f, sum))
	if _, err := io.Copy(z, ctxReader{ctx, in}); err != nil {
		return "", d, err
	}
	if err := z.Close(); err != nil {
		return "", d, err
	}
	d.Digest, d.Size = sum.hash.Digest(), sum.n
	return f.Name(), d, f.Close()
}

// outgoing is an image as the registry client wants it (partial.CompressedImageCore).
type outgoing struct {
	config, manifest []byte
	mediaType        string
	layers           []*outgoingLayer
	progress         func(Progress)
}

func (o *outgoing) add(d ocispec.Descriptor, file string) {
	if slices.ContainsFunc(o.layers, func(l *outgoingLayer) bool { return l.desc.Digest == d.Digest }) {
		return
	}
	o.layers = append(o.layers, &outgoingLayer{desc: d, file: file, progress: o.progress})
	o.progress(Progress{ID: short(d.Digest), Status: "Preparing"})
}

func (o *outgoing) RawConfigFile() ([]byte, error)      { return o.config, nil }
func (o *outgoing) RawManifest() ([]byte, error)        { return o.manifest, nil }
func (o *outgoing) MediaType() (types.MediaType, error) { return types.MediaType(o.mediaType), nil }

func (o *outgoing) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range o.layers {
		if l.desc.Digest.String() == h.String() {
			return l, nil
		}
	}
	return nil, errors.New("no such layer: " + h.String())
}

type outgoingLayer struct {
	desc     ocispec.Descriptor
	file     string
	progress func(Progress)
	sent     atomic.Bool
}

func (l *outgoingLayer) Digest() (v1.Hash, error) { return v1.NewHash(l.desc.Digest.String()) }
func (l *outgoingLayer) Size() (int64, error)     { return l.desc.Size, nil }
func (l *outgoingLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.desc.MediaType), nil
}

// Compressed is asked for only if the registry lacks the layer.
func (l *outgoingLayer) Compressed() (io.ReadCloser, error) {
	l.sent.Store(true)
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	m := &meter{id: short(l.desc.Digest), status: "Pushing", total: l.desc.Size, out: l.progress}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(f, m), f}, nil
}

func (l *outgoingLayer) finished() {
	status := "Layer already exists"
	if l.sent.Load() {
		status = "Pushed"
	}
	l.progress(Progress{ID: short(l.desc.Digest), Status: status})
}
