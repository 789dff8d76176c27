// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/errs"
)

// inUse is asked without a lock held, once per image that may go.
func (s *Store) askUsers(inUse func(digest.Digest) []string, ids []digest.Digest) func(digest.Digest) []string {
	users := map[digest.Digest][]string{}
	if inUse != nil {
		for _, id := range ids {
			users[id] = inUse(id)
		}
	}
	return func(id digest.Digest) []string { return users[id] }
}

// imageAndAncestors lists what Remove of ref may take.
func (s *Store) imageAndAncestors(ref string) ([]digest.Digest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	var ids []digest.Digest
	for ; img != nil && !slices.Contains(ids, img.ID); img = s.images[img.Parent] {
		ids = append(ids, img.ID)
	}
	return ids, nil
}

// RemoveOptions of Remove.
type RemoveOptions struct {
	Force   bool                         // also an image that is used, or is asked for by ID and has names in several repositories
	NoPrune bool                         // keep the build steps that led to it
	InUse   func(digest.Digest) []string // the containers made from an image; nil means none
	Running func(digest.Digest) []string // those of them that run: no force takes their image away
}

// Remove does what `docker rmi` does: a name loses its image, and an image without names goes, with the build steps that
// led to it and nothing else needs. Snapshots keep the layers they stand on.
func (s *Store) Remove(ctx context.Context, ref string, o RemoveOptions) ([]Removed, error) {
	ids, err := s.imageAndAncestors(ref)
	if err != nil {
		return nil, err
	}
	o.InUse, o.Running = s.askUsers(o.InUse, ids), s.askUsers(o.Running, ids)
	s.mu.Lock()
	removed, trash, err := s.remove(ref, o)
	s.mu.Unlock()
	for _, t := range trash {
		s.burn(t)
	}
	return removed, err
}

func (s *Store) remove(ref string, o RemoveOptions) ([]Removed, []string, error) {
	img, err := s.find(ref)
	if err != nil {
		return nil, nil, err
	}
	st := s.removalState(img, ref)
	st.users, st.running = o.InUse(img.ID), o.Running(img.ID)
	gone, err := decideRemoval(st, o.Force)
	if err != nil {
		return nil, nil, err
	}
	var out []Removed
	for _, n := range gone.untag {
		out = append(out, Removed{Untagged: familiar(n)})
	}
	if !gone.delete {
		trash, err := s.apply(planRecord{Untag: gone.untag})
		return out, trash, err
	}
	for _, d := range img.RepoDigests {
		out = append(out, Removed{Untagged: d})
	}
	ids := []digest.Digest{img.ID}
	if !o.NoPrune {
		ids = s.withParents(img, o.InUse)
	}
	for _, id := range ids {
		out = append(out, Removed{Deleted: id})
	}
	trash, err := s.removeImages(gone.untag, ids)
	return out, trash, err
}

// removeImages plans and does the removal of records and of the content only they used. It needs mu.
func (s *Store) removeImages(untag []string, ids []digest.Digest) ([]string, error) {
	p := planRecord{Untag: untag, Images: ids}
	gone := map[digest.Digest]bool{}
	for _, id := range ids {
		gone[id] = true
	}
	c, err := s.contents(gone)
	if err != nil {
		return nil, err
	}
	p.Layers, p.Blobs = garbage(c)
	return s.apply(p)
}

// removalState is what decideRemoval looks at.
type removalState struct {
	short  string   // for messages
	byName string   // the normalised name asked for, "" if by ID
	names  []string // all normalised names of the image, sorted
	repos  int      // how many repositories they are in

	users, running []string // containers made from the image, and those of them that run
}

func (s *Store) removalState(img *Image, ref string) removalState {
	st := removalState{short: short(img.ID)}
	repos := map[string]bool{}
	for n, id := range s.names {
		if id == img.ID {
			st.names = append(st.names, n)
			repos[n[:strings.LastIndex(n, ":")]] = true
		}
	}
	slices.Sort(st.names)
	st.repos = len(repos)
	if n, err := reference.ParseNormalizedNamed(ref); err == nil {
		if full := reference.TagNameOnly(n).String(); s.names[full] == img.ID {
			st.byName = full
		}
	}
	return st
}

type removal struct {
	untag  []string
	delete bool
}

// decideRemoval follows Docker's rules: a name among several is only untagged; an image in use needs force, and loses then
// only its name if a name was asked for; one that a running container uses stays.
func decideRemoval(st removalState, force bool) (removal, error) {
	conflict := func(format string, args ...any) (removal, error) {
		return removal{}, errs.New(errs.Conflict, "conflict: "+format, args...)
	}
	switch byID := st.byName == ""; {
	case !byID && len(st.names) > 1:
		return removal{untag: []string{st.byName}}, nil
	case byID && len(st.running) > 0:
		return conflict("unable to delete %s (cannot be forced) - image is being used by running container %s", st.short, shortID(st.running[0]))
	case byID && st.repos > 1 && !force:
		return conflict("unable to delete %s (must be forced) - image is referenced in multiple repositories", st.short)
	case byID && len(st.users) > 0 && !force:
		return conflict("unable to delete %s (must be forced) - image is being used by stopped container %s", st.short, shortID(st.users[0]))
	case !byID && len(st.users) > 0 && !force:
		return conflict("unable to remove repository reference %q (must force) - container %s is using its referenced image %s", familiar(st.byName), shortID(st.users[0]), st.short)
	case !byID && len(st.users) > 0: // the image stays for its containers
		return removal{untag: st.names}, nil
	}
	return removal{untag: st.names, delete: true}, nil
}

// shortID is how containers are named in messages.
func shortID(id string) string { return id[:min(12, len(id))] }

// withParents is the image and those of its ancestors that were only build steps towards it. It needs mu.
func (s *Store) withParents(img *Image, inUse func(digest.Digest) []string) []digest.Digest {
	ids := []digest.Digest{img.ID}
	for {
		parent := s.images[img.Parent]
		if s.leases > 0 || parent == nil || !parent.Cache || s.named(parent.ID) || len(inUse(parent.ID)) > 0 || s.hasOtherChild(parent.ID, img.ID) || slices.Contains(ids, parent.ID) {
			return ids
		}
		ids, img = append(ids, parent.ID), parent
	}
}

func (s *Store) named(id digest.Digest) bool {
	for _, n := range s.names {
		if n == id {
			return true
		}
	}
	return false
}

func (s *Store) hasOtherChild(parent, but digest.Digest) bool {
	for id, img := range s.images {
		if img.Parent == parent && id != but {
			return true
		}
	}
	return false
}

// PruneOptions says what Prune takes.
type PruneOptions struct {
	All   bool // also named images that inUse says nobody uses; else only dangling ones
	InUse func(digest.Digest) []string
	Keep  func(Image) bool // images to leave, nil: none
}

// Prune removes unused images, and content left by work that was cut short. It answers what went and how many bytes that
// freed. Build steps that a kept image came from stay, so that its next build is quick; All takes them too.
func (s *Store) Prune(ctx context.Context, o PruneOptions) ([]Removed, int64, error) {
	var ids []digest.Digest
	kept := map[digest.Digest]bool{}
	for _, img := range s.List() {
		ids = append(ids, img.ID)
		kept[img.ID] = o.Keep != nil && o.Keep(img)
	}
	o.InUse = s.askUsers(o.InUse, ids)
	before, err := s.Usage()
	if err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	removed, trash, err := s.prune(o, kept)
	s.mu.Unlock()
	for _, t := range trash {
		s.burn(t)
	}
	if err != nil {
		return removed, 0, err
	}
	after, err := s.Usage()
	return removed, before.LayerBytes + before.BlobBytes - after.LayerBytes - after.BlobBytes, err
}

func (s *Store) prune(o PruneOptions, kept map[digest.Digest]bool) ([]Removed, []string, error) {
	goes := map[digest.Digest]bool{}
	for id, img := range s.images {
		_, seen := kept[id] // one that came since was not asked about
		keep := !seen || !o.All && s.named(id) || len(o.InUse(id)) > 0 || kept[id] || img.Cache && s.leases > 0
		goes[id] = !keep
	}
	if !o.All {
		s.keepAncestors(goes)
	}
	var out []Removed
	var untag []string
	var ids []digest.Digest
	for id, g := range goes {
		if !g {
			continue
		}
		ids = append(ids, id)
		for n, of := range s.names {
			if of == id {
				untag = append(untag, n)
				out = append(out, Removed{Untagged: familiar(n)})
			}
		}
		out = append(out, Removed{Deleted: id})
	}
	slices.Sort(ids)
	slices.Sort(untag)
	trash, err := s.removeImages(untag, ids)
	return out, trash, err
}

func (s *Store) keepAncestors(goes map[digest.Digest]bool) {
	for id, g := range goes {
		if g {
			continue
		}
		seen := map[digest.Digest]bool{}
		for img := s.images[id]; img != nil && !seen[img.ID]; img = s.images[img.Parent] {
			seen[img.ID] = true
			goes[img.ID] = false
		}
	}
}

// Usage answers what is on disk.
func (s *Store) Usage() (Usage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{Images: len(s.images), Layers: len(s.layers), Snapshots: len(s.snaps)}
	gone := map[digest.Digest]bool{}
	for id, img := range s.images {
		gone[id] = !s.named(id) && len(img.RepoDigests) == 0
	}
	c, err := s.contents(gone)
	if err != nil {
		return u, err
	}
	layers, blobs := garbage(c)
	for _, l := range s.layers {
		u.LayerBytes += l.Size
	}
	for _, d := range layers {
		u.Reclaimable += s.layers[d].Size
	}
	for _, d := range c.blobs {
		u.BlobBytes += s.blobSize(d)
	}
	for _, d := range blobs {
		u.Reclaimable += s.blobSize(d)
	}
	return u, nil
}
