// SPDX-License-Identifier: Apache-2.0

package image

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

func invalidName(name string, err error) error {
	return errs.New(errs.Invalid, "invalid reference %q: %w", name, err)
}

func notFound(ref string) error { return errs.New(errs.NotFound, "No such image: %s", ref) }

// Get finds an image by name[:tag][@digest], full ID, or unique ID prefix; a name wins over a prefix.
func (s *Store) Get(ref string) (Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.find(ref)
	if err != nil {
		return Image{}, err
	}
	return s.view(img), nil
}

var idPrefix = regexp.MustCompile(`^(sha256:)?[0-9a-f]{1,64}$`)

// find needs mu.
func (s *Store) find(ref string) (*Image, error) {
	if d := digest.Digest(ref); d.Validate() == nil {
		if img := s.images[d]; img != nil {
			return img, nil
		}
		return nil, notFound(ref)
	}
	if img := s.findName(ref); img != nil {
		return img, nil
	}
	if !idPrefix.MatchString(ref) {
		if _, err := reference.ParseAnyReference(ref); err != nil {
			return nil, invalidName(ref, err)
		}
		return nil, notFound(ref)
	}
	return s.findPrefix(ref)
}

func (s *Store) findName(ref string) *Image {
	n, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil
	}
	if c, ok := n.(reference.Canonical); ok {
		return s.findDigest(n, c.Digest())
	}
	return s.images[s.names[reference.TagNameOnly(n).String()]]
}

// findDigest finds name@digest, where the digest is a manifest's, or the ID of an image that has the name here.
func (s *Store) findDigest(n reference.Named, d digest.Digest) *Image {
	want := reference.FamiliarName(n) + "@" + d.String()
	for _, img := range s.images {
		if slices.Contains(img.RepoDigests, want) {
			return img
		}
	}
	for name, id := range s.names {
		if id == d && strings.HasPrefix(name, n.Name()+":") {
			return s.images[id]
		}
	}
	return nil
}

func (s *Store) findPrefix(ref string) (*Image, error) {
	prefix := strings.TrimPrefix(ref, "sha256:")
	var found *Image
	for id, img := range s.images {
		if !strings.HasPrefix(id.Encoded(), prefix) {
			continue
		}
		if found != nil {
			return nil, errs.New(errs.Invalid, "several images have an ID that begins with %s: give more digits", ref)
		}
		found = img
	}
	if found == nil {
		return nil, notFound(ref)
	}
	return found, nil
}

// view is the image with its names, as callers get it. It needs mu.
func (s *Store) view(img *Image) Image {
	v := *img
	for n, id := range s.names {
		if id == img.ID {
			v.Names = append(v.Names, familiar(n))
		}
	}
	slices.Sort(v.Names)
	return v
}

// familiar shortens a normalised name to what people type.
func familiar(normal string) string {
	n, err := reference.ParseNormalizedNamed(normal)
	if err != nil {
		return normal
	}
	return reference.FamiliarString(n)
}

// List returns all images, newest first, Cache ones too.
func (s *Store) List() []Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	byImage := map[digest.Digest][]string{}
	for n, id := range s.names {
		byImage[id] = append(byImage[id], familiar(n))
	}
	out := make([]Image, 0, len(s.images))
	for id, img := range s.images {
		v := *img
		v.Names = byImage[id]
		slices.Sort(v.Names)
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return out
}

// parseTag normalises a name that is to be given: it must not carry a digest.
func parseTag(name string) (string, error) {
	n, err := ParseName(name)
	if err != nil {
		return "", err
	}
	if _, ok := n.(reference.Digested); ok {
		return "", errs.New(errs.Invalid, "cannot give the name %q: it has a digest", name)
	}
	return n.String(), nil
}

// Tag gives the image a further name; a name that pointed elsewhere moves.
func (s *Store) Tag(ref, name string) error {
	normal, err := parseTag(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.find(ref)
	if err != nil {
		return err
	}
	if s.names[normal] == img.ID {
		return nil
	}
	_, err = s.promote(img, []string{name})
	return err
}

// Promote makes a build step's result an image of its own right and gives it names, all in one go.
func (s *Store) Promote(id digest.Digest, names []string) (Image, error) {
	for _, n := range names {
		if _, err := parseTag(n); err != nil {
			return Image{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	img := s.images[id]
	if img == nil {
		return Image{}, notFound(string(id))
	}
	return s.promote(img, names)
}

// promote needs mu. What was written for a build's cache alone is made durable before a name points to it.
func (s *Store) promote(img *Image, names []string) (Image, error) {
	id := img.ID
	config, err := s.readBlob(id, maxConfigSize)
	if err != nil {
		return Image{}, err
	}
	if _, err := s.putBlob(config, true); err != nil {
		return Image{}, err
	}
	rec := img.record
	rec.Cache = false
	if len(names) > 0 {
		rec.Tagged = time.Now().UTC()
	}
	if img, err = s.writeRecord(rec); err != nil {
		return Image{}, err
	}
	if err := s.setNames(id, names); err != nil {
		return Image{}, err
	}
	return s.view(img), nil
}

// setNames points names to id. It needs mu.
func (s *Store) setNames(id digest.Digest, names []string) error {
	if len(names) == 0 {
		return nil
	}
	next := maps.Clone(s.names)
	for _, n := range names {
		normal, err := parseTag(n)
		if err != nil {
			return err
		}
		next[normal] = id
	}
	return s.writeNames(next)
}

// writeNames replaces the table. It needs mu.
func (s *Store) writeNames(next map[string]digest.Digest) error {
	if err := atomicfile.WriteJSON(s.path(namesFile), namesRecord{formatVersion, next}, 0o600); err != nil {
		return err
	}
	s.names = next
	return nil
}
