// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Check looks for broken invariants, for `knarr fsck` and tests: each answer is one thing that is wrong. deep also reads all
// content again and compares digests, of directories too as far as they can be packed to their digest.
func (s *Store) Check(ctx context.Context, deep bool) []error {
	h := s.newHold()
	defer h.release()
	s.mu.Lock()
	faults := s.checkTables()
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
