// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
)

// dockerManifest is one element of a docker-archive's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// loadable is one image of an archive, whichever form described it.
type loadable struct {
	config []byte
	spec   Spec
	names  []string
	layers []stagedFile // bottom first, one per diffID
}

// LoadOptions of Load.
type LoadOptions struct {
	Platform string // "os/arch[/variant]", of archives with several; "" for this machine's
	Progress func(Progress)
}

// Load reads a docker-archive or an OCI layout (or both in one), plain or compressed. Layers the store has are not unpacked again.
func (s *Store) Load(ctx context.Context, r io.Reader, o LoadOptions) ([]Image, error) {
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	progress := serialise(o.Progress)
	tmp, err := s.temp("load")
	if err != nil {
		return nil, err
	}
	defer s.discard(tmp)
	a, err := stageArchive(ctx, tmp, r)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	list, err := a.images(want)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if o.Platform != "" {
		for _, l := range list {
			if !matches(l.spec.Platform, want) {
				return nil, errs.New(errs.NotFound, "load: the archive's image is for %s, not for %s", platformString(l.spec.Platform), platformString(want))
			}
		}
	}
	var out []Image
	for _, l := range list {
		img, err := s.loadOne(ctx, l, progress)
		if err != nil {
			return out, fmt.Errorf("load %s: %w", strings.Join(append(l.names, short(digest.FromBytes(l.config))), " "), err)
		}
		for _, n := range l.names {
			if normal, err := parseTag(n); err == nil {
				img.Loaded = append(img.Loaded, familiar(normal))
			}
		}
		out = append(out, img)
	}
	return out, nil
}

func (s *Store) loadOne(ctx context.Context, l loadable, progress func(Progress)) (Image, error) {
	h := s.newHold()
	defer h.release()
	h.lockAdd(digest.FromBytes(l.config))
	chain := []digest.Digest{}
	for i, f := range l.layers {
		diffID := l.spec.RootFS.DiffIDs[i]
		progress(Progress{ID: short(diffID), Status: "Loading layer", Current: 0, Total: f.size})
		id, err := s.loadLayer(ctx, h, chain, diffID, f)
		if err != nil {
			return Image{}, err
		}
		progress(Progress{ID: short(diffID), Status: "Loading layer", Current: f.size, Total: f.size})
		chain = append(chain, id)
	}
	return s.addImage(l.config, imageRecord{Local: true}, l.names)
}

// loadLayer unpacks a staged file. A compressed one becomes a blob as it is: it can be pushed again without compressing.
func (s *Store) loadLayer(ctx context.Context, h *hold, below []digest.Digest, diffID digest.Digest, f stagedFile) (digest.Digest, error) {
	open := func() (io.ReadCloser, error) { return os.Open(f.path) }
	src := layerSource{diffID: diffID, open: open}
	if mt := blobMediaType(f.path); mt != "" {
		h.lockAdd(f.digest)
		if err := s.linkBlob(f); err != nil {
			return "", err
		}
		src.blob = &blobRef{Digest: f.digest, MediaType: mt, Size: f.size}
	}
	return s.ensureLayer(ctx, h, below, src)
}

// linkBlob gives a staged file its place among the blobs; the staged name may be needed by a further image.
func (s *Store) linkBlob(f stagedFile) error {
	if s.hasBlob(f.digest) {
		return nil
	}
	tmp := f.path + ".blob"
	if err := os.Link(f.path, tmp); err != nil {
		return err
	}
	return s.adoptBlob(tmp, f.digest)
}

// blobMediaType is what a compressed layer file is, "" for a plain one or for a compression registries do not take.
func blobMediaType(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 6)
	n, _ := io.ReadFull(f, head) // short files are plain
	switch layer.Detect(head[:n]) {
	case layer.Gzip:
		return ocispec.MediaTypeImageLayerGzip
	case layer.Zstd:
		return ocispec.MediaTypeImageLayerZstd
	}
	return ""
}

// images reads what the archive describes: manifest.json if there is one, for it has the names, else the OCI index.
func (a *archive) images(want ocispec.Platform) ([]loadable, error) {
	switch {
	case a.has("manifest.json"):
		return a.dockerImages()
	case a.has("index.json"):
		return a.ociImages(want)
	case a.has("repositories"):
		return nil, errs.New(errs.Unsupported, "the archive has the form of Docker before 1.10 (no manifest.json); save it again with a newer Docker")
	}
	return nil, errs.New(errs.Invalid, "not an image archive: it has neither manifest.json nor index.json (for the tar of a root file system use import)")
}

func (a *archive) dockerImages() ([]loadable, error) {
	data, err := a.read("manifest.json", maxManifestSize)
	if err != nil {
		return nil, err
	}
	var list []dockerManifest
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, errs.New(errs.Invalid, "malformed manifest.json: %w", err)
	}
	if len(list) == 0 {
		return nil, errs.New(errs.Invalid, "manifest.json names no image")
	}
	var out []loadable
	for _, m := range list {
		l, err := a.loadable(m)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func (a *archive) loadable(m dockerManifest) (l loadable, err error) {
	if l.config, err = a.read(m.Config, maxConfigSize); err != nil {
		return l, err
	}
	if l.spec, err = parseSpec(l.config); err != nil {
		return l, err
	}
	if len(m.Layers) != len(l.spec.RootFS.DiffIDs) {
		return l, errs.New(errs.Invalid, "manifest.json lists %d layers, the config %d", len(m.Layers), len(l.spec.RootFS.DiffIDs))
	}
	for _, name := range m.Layers {
		f, err := a.find(name)
		if err != nil {
			return l, err
		}
		l.layers = append(l.layers, f)
	}
	for _, n := range m.RepoTags {
		if _, err := parseTag(n); err != nil {
			return l, err
		}
		l.names = append(l.names, n)
	}
	return l, nil
}

// Annotations under which an OCI index carries an image's name: containerd's is a full reference, OCI's often only a tag.
const (
	annotationName = "io.containerd.image.name"
	annotationRef  = ocispec.AnnotationRefName
)

func (a *archive) ociImages(want ocispec.Platform) ([]loadable, error) {
	data, err := a.read("index.json", maxManifestSize)
	if err != nil {
		return nil, err
	}
	list, err := a.ociIndex(data, want, nil, 0)
	if err == nil && len(list) == 0 {
		err = errs.New(errs.NotFound, "index.json has no image for %s", platformString(want))
	}
	return list, err
}

// ociIndex collects the images of an index; of a nested one, which is one image for several platforms, the fitting one.
func (a *archive) ociIndex(data []byte, want ocispec.Platform, names []string, depth int) ([]loadable, error) {
	if depth > 3 {
		return nil, errs.New(errs.TooLarge, "indexes are nested too deep")
	}
	doc, err := parseManifest(data, "")
	if err != nil {
		return nil, err
	}
	if !doc.isIndex {
		l, err := a.ociImage(doc, names)
		return []loadable{l}, err
	}
	var out []loadable
	for _, d := range doc.Manifests {
		if d.Platform != nil && !matches(*d.Platform, want) {
			continue
		}
		if !slices.Contains(manifestTypes, d.MediaType) { // an attestation, a signature: nothing to run
			continue
		}
		sub, err := a.readDigest(d.Digest, maxManifestSize)
		if err != nil {
			if depth > 0 && len(doc.Manifests) > 1 { // archives of one platform keep the whole index
				continue
			}
			return nil, err
		}
		more, err := a.ociIndex(sub, want, slices.Concat(names, ociNames(d)), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
		if depth > 0 {
			break
		}
	}
	return out, nil
}

func ociNames(d ocispec.Descriptor) []string {
	for _, key := range []string{annotationName, annotationRef} {
		n, err := reference.ParseNormalizedNamed(d.Annotations[key])
		if err != nil || key == annotationRef && !strings.ContainsAny(d.Annotations[key], ":/") { // a bare tag names nothing
			continue
		}
		if _, ok := n.(reference.Digested); !ok {
			return []string{reference.TagNameOnly(n).String()}
		}
	}
	return nil
}

func (a *archive) ociImage(doc manifestDoc, names []string) (l loadable, err error) {
	l.names = names
	if l.config, err = a.readDigest(doc.Config.Digest, maxConfigSize); err != nil {
		return l, err
	}
	if l.spec, err = parseSpec(l.config); err != nil {
		return l, err
	}
	if len(doc.Layers) != len(l.spec.RootFS.DiffIDs) {
		return l, errs.New(errs.Invalid, "the manifest lists %d layers, the config %d", len(doc.Layers), len(l.spec.RootFS.DiffIDs))
	}
	for _, d := range doc.Layers {
		if err := checkDigest(d.Digest); err != nil {
			return l, err
		}
		f, err := a.find(ociBlobPath(d.Digest))
		if err != nil {
			return l, err
		}
		if f.digest != d.Digest {
			return l, errs.New(errs.Invalid, "archive file %s has digest %s", path.Base(f.path), f.digest)
		}
		l.layers = append(l.layers, f)
	}
	return l, nil
}
