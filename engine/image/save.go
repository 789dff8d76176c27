// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// saving is one image with the names that were asked for.
type saving struct {
	img   Image
	names []string // normalised
}

// Save writes the images as one tar that is both a docker-archive and an OCI layout. A name without a tag stands for all
// tags of its repository, an ID for the image without names.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string) error {
	h := s.newHold()
	defer h.release()
	list, layers, err := s.saveList(h, refs)
	if err != nil {
		return err
	}
	out := &saver{s: s, tw: tar.NewWriter(w), written: map[digest.Digest]bool{}}
	for _, sv := range list {
		if err := out.image(ctx, sv, layers); err != nil {
			return fmt.Errorf("save %s: %w", short(sv.img.ID), err)
		}
	}
	return out.finish()
}

func (s *Store) saveList(h *hold, refs []string) ([]saving, map[digest.Digest]*layerRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(refs) == 0 {
		return nil, nil, errs.New(errs.Invalid, "no image to save")
	}
	var list []saving
	layers := map[digest.Digest]*layerRecord{}
	for _, ref := range refs {
		found, err := s.saveRef(ref)
		if err != nil {
			return nil, nil, err
		}
		for _, sv := range found {
			at := slices.IndexFunc(list, func(o saving) bool { return o.img.ID == sv.img.ID })
			if at < 0 {
				list, at = append(list, saving{img: sv.img}), len(list)
			}
			list[at].names = mergeSorted(list[at].names, sv.names)
			h.add(sv.img.ID)
			for _, c := range sv.img.chain {
				h.add(c)
				layers[c] = s.layers[c]
			}
		}
	}
	return list, layers, nil
}

func (s *Store) saveRef(ref string) ([]saving, error) {
	if n, err := reference.ParseNormalizedNamed(ref); err == nil && reference.IsNameOnly(n) {
		var out []saving
		for name, id := range s.names {
			if strings.HasPrefix(name, n.Name()+":") {
				out = append(out, saving{*s.images[id], []string{name}})
			}
		}
		if len(out) > 0 {
			slices.SortFunc(out, func(a, b saving) int { return strings.Compare(a.names[0], b.names[0]) })
			return out, nil
		}
	}
	img, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	sv := saving{img: *img}
	if n, err := reference.ParseNormalizedNamed(ref); err == nil {
		if full := reference.TagNameOnly(n).String(); s.names[full] == img.ID {
			sv.names = []string{full}
		}
	}
	return []saving{sv}, nil
}

// saver writes the archive.
type saver struct {
	s       *Store
	tw      *tar.Writer
	written map[digest.Digest]bool
	docker  []dockerManifest
	index   ocispec.Index
}

func (o *saver) image(ctx context.Context, sv saving, layers map[digest.Digest]*layerRecord) error {
	config, err := o.s.readBlob(sv.img.ID, maxConfigSize)
	if err != nil {
		return err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: sv.img.ID, Size: int64(len(config))}}
	dm := dockerManifest{Config: ociBlobPath(sv.img.ID), Layers: []string{}}
	if err := o.document(sv.img.ID, config); err != nil {
		return err
	}
	for _, c := range sv.img.chain {
		l := layers[c]
		if err := o.layer(ctx, l); err != nil {
			return err
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: l.TarSize})
		dm.Layers = append(dm.Layers, ociBlobPath(l.DiffID))
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Platform: &sv.img.Config.Platform}
	if err := o.document(d.Digest, raw); err != nil {
		return err
	}
	o.entries(sv, dm, d)
	return nil
}

func (o *saver) entries(sv saving, dm dockerManifest, d ocispec.Descriptor) {
	if len(sv.names) == 0 {
		o.index.Manifests = append(o.index.Manifests, d)
	}
	for _, n := range sv.names {
		dm.RepoTags = append(dm.RepoTags, familiar(n))
		named := d
		named.Annotations = map[string]string{annotationName: n, annotationRef: n[strings.LastIndex(n, ":")+1:]}
		o.index.Manifests = append(o.index.Manifests, named)
	}
	o.docker = append(o.docker, dm)
}

func (o *saver) finish() error {
	o.index.SchemaVersion, o.index.MediaType = 2, ocispec.MediaTypeImageIndex
	for name, doc := range map[string]any{"index.json": o.index, "manifest.json": o.docker, ocispec.ImageLayoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}} {
		data, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		if err := o.file(name, data); err != nil {
			return err
		}
	}
	return o.tw.Close()
}

func (o *saver) document(d digest.Digest, data []byte) error {
	if o.written[d] {
		return nil
	}
	o.written[d] = true
	return o.file(ociBlobPath(d), data)
}

func (o *saver) file(name string, data []byte) error {
	if err := o.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err := o.tw.Write(data)
	return err
}

func (o *saver) header(name string, size int64) error {
	return o.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
}

func (o *saver) layer(ctx context.Context, l *layerRecord) error {
	if o.written[l.DiffID] {
		return nil
	}
	o.written[l.DiffID] = true
	r, err := o.s.openLayer(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := o.header(ociBlobPath(l.DiffID), l.TarSize); err != nil {
		return err
	}
	n, err := io.Copy(o.tw, ctxReader{ctx, r})
	if err == nil && n != l.TarSize {
		err = fmt.Errorf("layer %s has %d bytes, not %d", l.DiffID, n, l.TarSize)
	}
	return err
}
