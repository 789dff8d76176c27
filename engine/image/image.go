// SPDX-License-Identifier: Apache-2.0

package image

import (
	"time"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
)

// Spec is an image's config as it is stored: OCI's, with Docker's additions (Healthcheck, OnBuild, Shell).
// Its bytes, not this struct, have the digest that is the image's ID.
type Spec = dockerspec.DockerOCIImage

// ContainerConfig is the part of Spec that says how to run a container.
type ContainerConfig = dockerspec.DockerOCIImageConfig

// Image is one image of the store. Values handed out are shared: read only.
type Image struct {
	ID          digest.Digest   // of the config's bytes
	Names       []string        // familiar, sorted: "nginx:1.8", "localhost:5000/web:v1"
	RepoDigests []string        // familiar name@digest, one per repository it was pulled from or pushed to
	Config      Spec            // decoded config
	Layers      []digest.Digest // diffIDs, bottom first
	Size        int64           // bytes of the unpacked layers' regular files, all layers counted
	Created     time.Time       // as the config says; zero if it does not
	Tagged      time.Time       // when a name was last given here; zero if never
	Local       bool            // built, loaded, imported or committed here: this store is its origin
	Parent      digest.Digest   // the image it was built or committed from, "" if unknown
	Cache       bool            // made by a build step, kept for the next build; hidden from plain lists
	Loaded      []string        // answered by Load alone: those of Names that the archive gave

	record imageRecord
	chain  []digest.Digest // chainIDs, bottom first
}

// Dangling reports whether nothing names the image.
func (i Image) Dangling() bool { return len(i.Names) == 0 && len(i.RepoDigests) == 0 }

// LayerSizes answers the bytes of the regular files of each layer of img, bottom first.
func (s *Store) LayerSizes(img Image) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]int64, len(img.chain))
	for i, id := range img.chain {
		if l := s.layers[id]; l != nil { // the image may have been removed meanwhile
			out[i] = l.Size
		}
	}
	return out
}

// LayerDirs are the host folders of the image's layers, the topmost first. They are read only.
func (s *Store) LayerDirs(img Image) []string { return s.fsDirs(chainIDs(img.Layers)) }

// SharedSizes answers, by image, the bytes of its layers that other images have too.
func (s *Store) SharedSizes() map[digest.Digest]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	users := map[digest.Digest]int{}
	for _, img := range s.images {
		for _, c := range img.chain {
			users[c]++
		}
	}
	out := map[digest.Digest]int64{}
	for id, img := range s.images {
		out[id] = 0
		for _, c := range img.chain {
			if users[c] > 1 {
				out[id] += s.layers[c].Size
			}
		}
	}
	return out
}

// Fits says whether the image runs on a platform given as "os/arch[/variant]".
func (i Image) Fits(platform string) (bool, error) {
	want, err := parsePlatform(platform)
	if err != nil {
		return false, err
	}
	return matches(i.Config.Platform, want), nil
}

// Platform is the image's "os/architecture[/variant]".
func (i Image) Platform() string {
	p := i.Config.OS + "/" + i.Config.Architecture
	if i.Config.Variant != "" {
		p += "/" + i.Config.Variant
	}
	return p
}

// ParseName normalises a reference as Docker does: "nginx" is docker.io/library/nginx:latest. A name may carry a tag, a
// digest or both; a bare ID is not a name.
func ParseName(name string) (reference.Named, error) {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, invalidName(name, err)
	}
	return reference.TagNameOnly(n), nil
}

// FamiliarString is a reference as people type it: without the default registry.
func FamiliarString(n reference.Named) string { return reference.FamiliarString(n) }

// InitFiles says what the init layer of a snapshot holds: what the engine, not the image, puts into a root file system.
type InitFiles struct {
	None       bool     // leave the init layer empty: for work on an image, not a container
	Volatile   bool     // the snapshot need not survive a power cut: do not wait for the disk
	Hosts      []byte   // /etc/hosts; nil leaves an empty file to mount over
	ResolvConf []byte   // /etc/resolv.conf, likewise
	Hostname   []byte   // /etc/hostname, likewise
	Dirs       []string // further directories to make if the image lacks them (mount points), absolute in the container
	Files      []string // further empty files to make if the image lacks them (mount points)
}

// Snapshot is a prepared root file system: the image's layers, the init layer, and one read-write layer.
type Snapshot struct {
	Key   string
	Image digest.Digest // the image it was made from; "" for scratch
	Dir   string        // host folder that holds rw and work
	RW    string        // host folder of the read-write layer
	Work  string        // overlayfs' own folder beside it
	Lower []string      // host folders below it as overlayfs stacks them, top first; the first is the init layer
}

// A ChangeKind is how a path of a container differs from its image.
type ChangeKind int

// The values are those of Docker's API.
const (
	Modified ChangeKind = 0
	Added    ChangeKind = 1
	Deleted  ChangeKind = 2
)

// String is the letter that `docker diff` prints.
func (k ChangeKind) String() string { return [...]string{"C", "A", "D"}[k] }

// Change is one path that differs, absolute in the container.
type Change struct {
	Path string
	Kind ChangeKind
}

// Removed is one thing that Remove or Prune took away; exactly one field is set.
type Removed struct {
	Untagged string        // a familiar name, or name@digest
	Deleted  digest.Digest // an image
}

// Usage is what the store holds on disk.
type Usage struct {
	Images     int
	Layers     int   // unpacked
	LayerBytes int64 // of regular files in unpacked layers, each layer once
	BlobBytes  int64
	Snapshots  int
	// Reclaimable is what Prune would free: layers and blobs that only dangling images use.
	Reclaimable int64
}

// Progress is one step of a long operation; Docker's API prints these fields.
type Progress struct {
	ID      string // short digest of a layer, or the reference for messages about the whole
	Status  string // "Pulling fs layer", "Downloading", "Extracting", "Pull complete", "Already exists", "Pushed", …
	Current int64  // bytes done, 0 if unknown
	Total   int64  // bytes in all, 0 if unknown
}
