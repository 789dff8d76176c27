// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// imageRecord is images/<ID>.json: what is known of an image beside its config blob.
type imageRecord struct {
	Version     int           `json:"version"`
	ID          digest.Digest `json:"id"`
	Parent      digest.Digest `json:"parent,omitempty"`
	Local       bool          `json:"local,omitempty"`
	Cache       bool          `json:"cache,omitempty"`
	Tagged      time.Time     `json:"tagged,omitzero"`
	RepoDigests []string      `json:"repoDigests,omitempty"`
	Manifest    *blobRef      `json:"manifest,omitempty"` // as it was pulled
}

// namesRecord is names.json.
type namesRecord struct {
	Version int                      `json:"version"`
	Names   map[string]digest.Digest `json:"names"` // normalised name:tag
}

// parseSpec decodes a config and checks what the store relies on.
func parseSpec(data []byte) (Spec, error) {
	var sp Spec
	if int64(len(data)) > maxConfigSize {
		return sp, errs.New(errs.TooLarge, "image config is larger than %d bytes", int64(maxConfigSize))
	}
	if err := json.Unmarshal(data, &sp); err != nil {
		return sp, errs.New(errs.Invalid, "malformed image config: %w", err)
	}
	if sp.RootFS.Type != "layers" {
		return sp, errs.New(errs.Invalid, "image config: rootfs type %.40q is not \"layers\"", sp.RootFS.Type)
	}
	if n := len(sp.RootFS.DiffIDs); n > maxLayers {
		return sp, errs.New(errs.TooLarge, "the image has %d layers, more than %d", n, maxLayers)
	}
	for _, d := range sp.RootFS.DiffIDs {
		if err := checkDigest(d); err != nil {
			return sp, fmt.Errorf("image config: rootfs: %w", err)
		}
	}
	return sp, nil
}

func (s *Store) recordPath(id digest.Digest) string { return s.path(imagesDir, id.Encoded()+".json") }

// addImage stores config and record and gives names; all its layers must be in the store and held. It merges with what is
// known of the same ID. The caller need not hold mu.
func (s *Store) addImage(config []byte, rec imageRecord, names []string) (Image, error) {
	sp, err := parseSpec(config)
	if err != nil {
		return Image{}, err
	}
	h := s.newHold() // no collection between blob and record
	defer h.release()
	h.lockAdd(digest.FromBytes(config))
	id, err := s.putBlob(config, !rec.Cache)
	if err != nil {
		return Image{}, err
	}
	rec.Version, rec.ID = formatVersion, id
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.images[id]; old != nil {
		rec = old.record.merge(rec)
	}
	img, err := s.assemble(sp, rec)
	if err != nil {
		return Image{}, err
	}
	if len(names) > 0 {
		img.record.Tagged, img.Tagged = time.Now().UTC(), time.Now().UTC()
	}
	if err := s.storeRecord(img.record); err != nil {
		return Image{}, err
	}
	s.images[id] = img
	if err := s.setNames(id, names); err != nil {
		return Image{}, err
	}
	return s.view(img), nil
}

// merge keeps what either knows; an image is local or cached only as long as all its origins say so.
func (old imageRecord) merge(rec imageRecord) imageRecord {
	rec.Local = old.Local || rec.Local
	rec.Cache = old.Cache && rec.Cache
	if rec.Parent == "" {
		rec.Parent = old.Parent
	}
	if rec.Manifest == nil {
		rec.Manifest = old.Manifest
	}
	rec.Tagged = old.Tagged
	rec.RepoDigests = mergeSorted(old.RepoDigests, rec.RepoDigests)
	return rec
}

func mergeSorted(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// assemble makes the value that List and Get hand out, names left out. It needs mu.
func (s *Store) assemble(sp Spec, rec imageRecord) (*Image, error) {
	img := &Image{ID: rec.ID, Config: sp, Layers: sp.RootFS.DiffIDs, Local: rec.Local, Parent: rec.Parent, Cache: rec.Cache,
		Tagged: rec.Tagged, RepoDigests: rec.RepoDigests, record: rec, chain: chainIDs(sp.RootFS.DiffIDs)}
	if sp.Created != nil {
		img.Created = *sp.Created
	}
	for _, c := range img.chain {
		l := s.layers[c]
		if l == nil {
			return nil, fmt.Errorf("image %s: layer %s is not in the store", rec.ID, c)
		}
		img.Size += l.Size
	}
	return img, nil
}

// recover brings tables and files in step: plans first, then what is half made goes, then everything is read.
func (s *Store) recover() error {
	if err := s.finishPlans(); err != nil {
		return err
	}
	for _, d := range []string{partialDir, trashDir} {
		if err := emptyFolder(s.path(d)); err != nil {
			return err
		}
	}
	for _, d := range []string{"", blobsDir, imagesDir, plansDir} {
		if err := atomicfile.Sweep(s.path(d)); err != nil {
			return err
		}
	}
	if err := s.readLayers(); err != nil {
		return err
	}
	if err := s.readImages(); err != nil {
		return err
	}
	if err := s.readSnapshots(); err != nil {
		return err
	}
	if err := s.sweepInits(); err != nil {
		return err
	}
	return s.sweep(time.Now().Add(-graceTime))
}

func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(dir + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) readLayers() error {
	entries, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		var rec layerRecord
		if err := atomicfile.ReadJSON(s.path(layersDir, e.Name(), "layer.json"), &rec); err != nil {
			return err
		}
		if rec.ChainID.Validate() != nil || rec.ChainID.Encoded() != e.Name() {
			return fmt.Errorf("layers/%s/layer.json describes %q", e.Name(), rec.ChainID)
		}
		s.layers[rec.ChainID] = &rec
	}
	return nil
}

func (s *Store) readImages() error {
	entries, err := os.ReadDir(s.path(imagesDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		var rec imageRecord
		err := atomicfile.ReadJSON(s.path(imagesDir, e.Name()), &rec)
		if err == nil {
			err = s.readImage(rec)
		}
		if err != nil { // a build step torn by a power cut, or damage: one broken image must not take the others away
			s.log.Warn("image store: image left out", "file", e.Name(), "err", err)
		}
	}
	var names namesRecord
	if err := atomicfile.ReadJSON(s.path(namesFile), &names); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for n, id := range names.Names {
		if s.images[id] != nil {
			s.names[n] = id
		} else {
			s.log.Error("image store: name without image dropped", "name", n, "image", id)
		}
	}
	return nil
}

func (s *Store) readImage(rec imageRecord) error {
	data, err := s.readBlob(rec.ID, maxConfigSize)
	if err != nil {
		return err
	}
	sp, err := parseSpec(data)
	if err != nil {
		return err
	}
	img, err := s.assemble(sp, rec)
	if err != nil {
		return err
	}
	s.images[rec.ID] = img
	return nil
}

// writeRecord needs mu; it replaces an image's record and its value in the table.
func (s *Store) writeRecord(rec imageRecord) (*Image, error) {
	old := s.images[rec.ID]
	if err := s.storeRecord(rec); err != nil {
		return nil, err
	}
	img, err := s.assemble(old.Config, rec)
	if err != nil {
		return nil, err
	}
	s.images[rec.ID] = img
	return img, nil
}

// storeRecord writes a record; a build step's need not survive a power cut, and saves each step two waits for the disk.
func (s *Store) storeRecord(rec imageRecord) error {
	if !rec.Cache {
		return atomicfile.WriteJSON(s.recordPath(rec.ID), rec, 0o600)
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return atomicfile.WriteVolatile(s.recordPath(rec.ID), data, 0o600)
}

// short is how digests are shown: 12 hex digits.
func short(d digest.Digest) string {
	h := strings.TrimPrefix(string(d), "sha256:")
	return h[:min(12, len(h))]
}
