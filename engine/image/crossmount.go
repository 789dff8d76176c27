// SPDX-License-Identifier: Apache-2.0

package image

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
)

// mountable is an image whose layers say in which other repository of the same registry they are already, so that the
// registry can take them from there (distribution-spec, "Mounting a blob from another repository").
type mountable struct {
	v1.Image
	from map[string]name.Reference // by the blob's digest
}

// Layers implements v1.Image.
func (m mountable) Layers() ([]v1.Layer, error) {
	layers, err := m.Image.Layers()
	if err != nil {
		return nil, err
	}
	for i, l := range layers {
		h, err := l.Digest()
		if err != nil {
			return nil, err
		}
		if from := m.from[h.String()]; from != nil {
			layers[i] = &remote.MountableLayer{Layer: l, Reference: from}
		}
	}
	return layers, nil
}

// mountSources finds, for each layer that came as a blob, another repository of the registry that an image with that layer
// was pulled from or pushed to.
func (s *Store) mountSources(repo *remoteRepo, n reference.Named, layers []*layerRecord) map[string]name.Reference {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]name.Reference{}
	for _, img := range s.images {
		other := otherRepository(img.RepoDigests, n)
		if other == nil {
			continue
		}
		has := map[digest.Digest]bool{}
		for _, c := range img.chain {
			has[c] = true
		}
		for _, l := range layers {
			if l.Blob != nil && has[l.ChainID] {
				out[l.Blob.Digest.String()] = repo.repo.Registry.Repo(reference.Path(other)).Tag("latest") // the tag is not used
			}
		}
	}
	return out
}

func otherRepository(repoDigests []string, n reference.Named) reference.Named {
	for _, rd := range repoDigests {
		familiar, _, _ := strings.Cut(rd, "@")
		other, err := reference.ParseNormalizedNamed(familiar)
		if err == nil && reference.Domain(other) == reference.Domain(n) && other.Name() != n.Name() {
			return other
		}
	}
	return nil
}
