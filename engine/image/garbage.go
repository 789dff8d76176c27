// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/atomicfile"
)

// graceTime is how long content that nothing refers to is kept at Open: a pull that was cut short goes on from there.
const graceTime = 24 * time.Hour

// contents is all Garbage looks at.
type contents struct {
	images []contentImage
	snaps  [][]digest.Digest              // chainIDs of each snapshot
	layers map[digest.Digest]*layerRecord // by chainID
	blobs  []digest.Digest
	held   map[digest.Digest]int
}

type contentImage struct {
	blobs []digest.Digest // config and manifest
	chain []digest.Digest
}

// garbage says which layers and blobs nothing refers to: no image, no snapshot, no running work. Pure; sorted.
func garbage(c contents) (layers, blobs []digest.Digest) {
	live := map[digest.Digest]bool{}
	for d := range c.held {
		live[d] = true
	}
	for _, img := range c.images {
		for _, d := range slices.Concat(img.blobs, img.chain) {
			live[d] = true
		}
	}
	for _, chain := range c.snaps {
		for _, d := range chain {
			live[d] = true
		}
	}
	for id := range c.layers { // a layer keeps those below it
		for at := id; live[id] && c.layers[at] != nil; at = c.layers[at].Parent {
			live[at] = true
		}
	}
	for id, l := range c.layers {
		if !live[id] {
			layers = append(layers, id)
		} else if l.Blob != nil {
			live[l.Blob.Digest] = true
		}
	}
	for _, d := range c.blobs {
		if !live[d] {
			blobs = append(blobs, d)
		}
	}
	slices.Sort(layers)
	slices.Sort(blobs)
	return layers, blobs
}

// contents gathers what garbage needs, without the images in gone. It needs mu.
func (s *Store) contents(gone map[digest.Digest]bool) (contents, error) {
	c := contents{layers: s.layers, held: s.held}
	for id, img := range s.images {
		if gone[id] {
			continue
		}
		ci := contentImage{blobs: []digest.Digest{id}, chain: img.chain}
		if m := img.record.Manifest; m != nil {
			ci.blobs = append(ci.blobs, m.Digest)
		}
		c.images = append(c.images, ci)
	}
	for _, r := range s.snaps {
		c.snaps = append(c.snaps, r.Chain)
	}
	entries, err := os.ReadDir(s.path(blobsDir))
	if err != nil {
		return c, err
	}
	for _, e := range entries {
		if d := digest.NewDigestFromEncoded(digest.SHA256, e.Name()); d.Validate() == nil {
			c.blobs = append(c.blobs, d)
		}
	}
	return c, nil
}

// planRecord is plans/<name>.json: a removal that was decided; each step may be done again.
type planRecord struct {
	Version int             `json:"version"`
	Untag   []string        `json:"untag,omitempty"` // normalised
	Images  []digest.Digest `json:"images,omitempty"`
	Layers  []digest.Digest `json:"layers,omitempty"` // chainIDs
	Blobs   []digest.Digest `json:"blobs,omitempty"`
}

func (p planRecord) empty() bool {
	return len(p.Untag)+len(p.Images)+len(p.Layers)+len(p.Blobs) == 0
}

// apply writes the plan, does it, and removes it; what is left to burn is answered. It needs mu.
func (s *Store) apply(p planRecord) (trash []string, err error) {
	if p.empty() {
		return nil, nil
	}
	p.Version = formatVersion
	file := s.path(plansDir, fmt.Sprintf("%d.json", time.Now().UnixNano()))
	if err := atomicfile.WriteJSON(file, p, 0o600); err != nil {
		return nil, err
	}
	trash, err = s.execute(p)
	// Also after an error: the steps go from names down to blobs, so stopping between two leaves only unreferenced
	// content, whereas a plan found later could take away what has come back meanwhile.
	if rerr := os.Remove(file); err == nil && rerr != nil {
		err = rerr
	}
	return trash, err
}

func (s *Store) execute(p planRecord) (trash []string, err error) {
	if len(p.Untag) > 0 {
		next := maps.Clone(s.names)
		for _, n := range p.Untag {
			delete(next, n)
		}
		if err := s.writeNames(next); err != nil {
			return nil, err
		}
	}
	for _, id := range p.Images {
		if err := removeFile(s.recordPath(id)); err != nil {
			return nil, err
		}
		delete(s.images, id)
	}
	if err := atomicfile.SyncDir(s.path(imagesDir)); err != nil {
		return nil, err
	}
	for _, id := range p.Layers {
		to := s.path(trashDir, fmt.Sprintf("%s-%d", id.Encoded(), time.Now().UnixNano()))
		if err := os.Rename(s.path(layersDir, id.Encoded()), to); err == nil {
			trash = append(trash, to)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return trash, err
		}
		delete(s.layers, id)
	}
	for _, d := range p.Blobs {
		if err := removeFile(s.blobPath(d)); err != nil {
			return trash, err
		}
	}
	return trash, nil
}

func removeFile(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// finishPlans does at Open what a crash cut short, before any table is read.
func (s *Store) finishPlans() error {
	entries, err := os.ReadDir(s.path(plansDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		var p planRecord
		if err := atomicfile.ReadJSON(s.path(plansDir, e.Name()), &p); err != nil {
			return err
		}
		if err := s.finishPlan(p); err != nil {
			return err
		}
		if err := os.Remove(s.path(plansDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) finishPlan(p planRecord) error {
	var names namesRecord
	if err := atomicfile.ReadJSON(s.path(namesFile), &names); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.names = names.Names
	_, err := s.execute(p) // the trash is emptied right after
	s.names = map[string]digest.Digest{}
	return err
}

// sweep drops unreferenced content last changed before. It is part of Open: no work runs.
func (s *Store) sweep(before time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.contents(nil)
	if err != nil {
		return err
	}
	var p planRecord
	p.Layers, p.Blobs = garbage(c)
	p.Layers = slices.DeleteFunc(p.Layers, func(d digest.Digest) bool { return !olderThan(s.path(layersDir, d.Encoded()), before) })
	p.Blobs = slices.DeleteFunc(p.Blobs, func(d digest.Digest) bool { return !olderThan(s.blobPath(d), before) })
	if !p.empty() {
		s.log.Info("image store: removing content nothing refers to", "layers", len(p.Layers), "blobs", len(p.Blobs))
	}
	trash, err := s.apply(p)
	for _, t := range trash {
		s.burn(t)
	}
	if err != nil {
		return err
	}
	return s.sweepDownloads(before)
}

func (s *Store) sweepDownloads(before time.Time) error {
	entries, err := os.ReadDir(s.path(downloadsDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if f := s.path(downloadsDir, e.Name()); olderThan(f, before) {
			if err := removeFile(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func olderThan(name string, t time.Time) bool {
	fi, err := os.Lstat(name)
	return err == nil && fi.ModTime().Before(t)
}
