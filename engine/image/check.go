// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Check looks for broken invariants, for `knarr fsck` and tests: each answer is one thing that is wrong. deep does
// CheckContent too.
func (s *Store) Check(ctx context.Context, deep bool) []error {
	s.mu.Lock()
	faults := append(s.checkTables(), s.checkFolders()...)
	s.mu.Unlock()
	return append(faults, s.checkLayers(ctx, deep)...)
}

// CheckContent reads all content again and compares digests, of directories too as far as they can be packed to their digest.
func (s *Store) CheckContent(ctx context.Context) []error { return s.checkLayers(ctx, true) }

func (s *Store) checkLayers(ctx context.Context, deep bool) (faults []error) {
	h := s.newHold()
	defer h.release()
	s.mu.Lock()
	layers := slices.Collect(maps.Values(s.layers))
	for _, l := range layers {
		h.add(l.ChainID)
	}
	s.mu.Unlock()
	for _, l := range layers {
		if err := s.checkLayer(ctx, l, deep); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

// checkTables needs mu.
func (s *Store) checkTables() (faults []error) {
	for name, id := range s.names {
		if s.images[id] == nil {
			faults = append(faults, fmt.Errorf("name %s points to image %s, which is not here", name, id))
		}
	}
	for id, img := range s.images {
		if _, err := s.readBlob(id, maxConfigSize); err != nil {
			faults = append(faults, fmt.Errorf("image %s: config: %w", id, err))
		}
		if m := img.record.Manifest; m != nil {
			if _, err := s.readBlob(m.Digest, maxManifestSize); err != nil {
				faults = append(faults, fmt.Errorf("image %s: manifest: %w", id, err))
			}
		}
		faults = append(faults, s.checkChain("image "+string(id), img.chain)...)
	}
	for key, snap := range s.snaps {
		faults = append(faults, s.checkChain("snapshot "+key, snap.Chain)...)
		if fi, err := os.Lstat(s.initDir(snap.InitLayer)); err != nil || !fi.IsDir() {
			faults = append(faults, fmt.Errorf("snapshot %s: its init layer %s is missing", key, snap.InitLayer))
		}
		for _, d := range []string{"rw", "work"} {
			if fi, err := os.Lstat(s.path(snapshotsDir, key, d)); err != nil || !fi.IsDir() {
				faults = append(faults, fmt.Errorf("snapshot %s: no directory %s", key, d))
			}
		}
	}
	return faults
}

// checkFolders finds what is on disk and in no table. It needs mu: table and folder change together under it.
func (s *Store) checkFolders() (faults []error) {
	for _, f := range []struct {
		dir   string
		known func(name string) bool
	}{
		{layersDir, func(n string) bool { return s.layers[digest.NewDigestFromEncoded(digest.SHA256, n)] != nil }},
		{imagesDir, func(n string) bool {
			return s.images[digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(n, ".json"))] != nil
		}},
		{snapshotsDir, func(n string) bool { return s.snaps[n] != nil }},
		{initsDir, func(n string) bool { return s.inits[strings.TrimSuffix(n, initSuffix)] != nil }},
		{plansDir, func(string) bool { return false }},
	} {
		entries, err := os.ReadDir(s.path(f.dir))
		if err != nil {
			faults = append(faults, err)
		}
		for _, e := range entries {
			if !f.known(e.Name()) {
				faults = append(faults, fmt.Errorf("%s/%s belongs to nothing that is known", f.dir, e.Name()))
			}
		}
	}
	return faults
}

func (s *Store) checkChain(what string, chain []digest.Digest) (faults []error) {
	for _, c := range chain {
		if s.layers[c] == nil {
			faults = append(faults, fmt.Errorf("%s: layer %s is not here", what, c))
		}
	}
	return faults
}

func (s *Store) checkLayer(ctx context.Context, l *layerRecord, deep bool) error {
	if fi, err := os.Lstat(s.layerFS(l.ChainID)); err != nil || !fi.IsDir() {
		return fmt.Errorf("layer %s: its directory is missing", l.ChainID)
	}
	if l.Blob != nil && !s.hasBlob(l.Blob.Digest) {
		return fmt.Errorf("layer %s: its blob %s is missing", l.ChainID, l.Blob.Digest)
	}
	if !deep {
		return nil
	}
	r, err := s.openLayer(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	hash := digest.SHA256.Digester()
	if _, err := io.Copy(hash.Hash(), r); err != nil {
		return fmt.Errorf("layer %s: %w", l.ChainID, err)
	}
	if got := hash.Digest(); got != l.DiffID {
		return fmt.Errorf("layer %s: its tar has digest %s, not %s", l.ChainID, got, l.DiffID)
	}
	return nil
}
