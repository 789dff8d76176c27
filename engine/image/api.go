// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"io"
	"log/slog"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/errs"
)

// Config of a Store.
type Config struct {
	Dir string       // made if missing, mode 0700
	Log *slog.Logger // nil: slog.Default
}

// Store is the image store of one daemon.
type Store struct{ cfg Config }

var errSoon = errs.New(errs.Unsupported, "image store: being written")

func invalidName(name string, err error) error {
	return errs.New(errs.Invalid, "invalid reference %q: %w", name, err)
}

// Open locks the store, finishes or sweeps what a crash left, and reads its tables.
func Open(cfg Config) (*Store, error) { return nil, errSoon }

// Close releases the lock. Mounted snapshots stay mounted.
func (s *Store) Close() error { return nil }

// Get finds an image by name[:tag][@digest], full ID, or unique ID prefix.
func (s *Store) Get(ref string) (Image, error) { return Image{}, errSoon }

// List returns all images, newest first, Cache ones too.
func (s *Store) List() []Image { return nil }

// Tag gives the image a further name; a name that pointed elsewhere moves.
func (s *Store) Tag(ref, name string) error { return errSoon }

// Remove does what `docker rmi` does. inUse names the containers that use an image (running or not).
func (s *Store) Remove(ctx context.Context, ref string, force bool, inUse func(digest.Digest) []string) ([]Removed, error) {
	return nil, errSoon
}

// PruneOptions says what Prune takes.
type PruneOptions struct {
	All   bool // also named images that inUse says nobody uses; else only dangling ones
	InUse func(digest.Digest) []string
	Keep  func(Image) bool // images to leave, nil: none
}

// Prune removes unused images and answers what went and how many bytes that freed.
func (s *Store) Prune(ctx context.Context, o PruneOptions) ([]Removed, int64, error) {
	return nil, 0, errSoon
}

// Load reads a docker-archive or an OCI layout (or both in one), plain, gzip or zstd.
func (s *Store) Load(ctx context.Context, r io.Reader, progress func(Progress)) ([]Image, error) {
	return nil, errSoon
}

// Save writes the images as one tar that is both a docker-archive and an OCI layout.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string) error { return errSoon }

// ImportOptions describe the image that Import makes.
type ImportOptions struct {
	Name     string // "" for none
	Message  string
	Platform string // "" for this machine's
	Config   ContainerConfig
}

// Import makes an image of one layer from the tar of a root file system.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (Image, error) {
	return Image{}, errSoon
}

// Auth is what a registry asks for; the zero value is anonymous.
type Auth struct {
	Username, Password string
	IdentityToken      string // OAuth2 refresh token
	RegistryToken      string // bearer, sent as it is
}

// PullOptions of Pull.
type PullOptions struct {
	Auth     Auth
	Platform string // "os/arch[/variant]"; "" for this machine's
	Insecure bool   // plain http and unverified certificates; loopback registries need not say so
	Progress func(Progress)
}

// Pull fetches an image from its registry.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (Image, error) {
	return Image{}, errSoon
}

// PushOptions of Push.
type PushOptions struct {
	Auth     Auth
	Insecure bool
	Progress func(Progress)
}

// Push sends the image to the registry its name says, and answers the manifest's digest.
func (s *Store) Push(ctx context.Context, ref string, o PushOptions) (digest.Digest, error) {
	return "", errSoon
}

// Prepare makes a snapshot of img under key ([a-zA-Z0-9][a-zA-Z0-9_.-]*). An existing key is errs.Exists.
func (s *Store) Prepare(ctx context.Context, key string, img Image, files InitFiles) (Snapshot, error) {
	return Snapshot{}, errSoon
}

// Mount mounts the snapshot's overlay on target, an existing directory.
func (s *Store) Mount(key, target string) error { return errSoon }

// MountReadOnly mounts an image's layers on target, read-only.
func (s *Store) MountReadOnly(img Image, target string) error { return errSoon }

// Unmount undoes Mount; a target that is not mounted is no error.
func (s *Store) Unmount(target string) error { return errSoon }

// RemoveSnapshot deletes a snapshot, which must not be mounted; a missing one is no error.
func (s *Store) RemoveSnapshot(key string) error { return errSoon }

// Snapshots lists the keys, sorted.
func (s *Store) Snapshots() []string { return nil }

// Snapshot finds one by key.
func (s *Store) Snapshot(key string) (Snapshot, error) { return Snapshot{}, errSoon }

// SnapshotUsage answers the bytes and inodes of the read-write layer.
func (s *Store) SnapshotUsage(key string) (bytes, inodes int64, err error) { return 0, 0, errSoon }

// Changes lists what the container changed against image and init layer, sorted by path.
func (s *Store) Changes(key string) ([]Change, error) { return nil, errSoon }

// CommitOptions describe the image that CommitSnapshot makes.
type CommitOptions struct {
	Config    *ContainerConfig // nil: the parent's
	Author    string
	Message   string // history comment
	CreatedBy string // history created_by
	Name      string // "" for none
	Cache     bool   // a build step's result
	// Consume moves the read-write layer into the image instead of copying it. The snapshot must be unmounted, and is gone after.
	Consume bool
}

// CommitSnapshot makes an image of the snapshot's image plus its read-write layer; the init layer is left out.
func (s *Store) CommitSnapshot(ctx context.Context, key string, o CommitOptions) (Image, error) {
	return Image{}, errSoon
}

// PutOptions describe an image that Put makes from layers the store already has.
type PutOptions struct {
	Base   Image // its layers are taken
	Config Spec  // RootFS is filled in
	Names  []string
	Parent digest.Digest
	Cache  bool
}

// Put stores an image with the layers of o.Base and another config.
func (s *Store) Put(ctx context.Context, o PutOptions) (Image, error) { return Image{}, errSoon }

// Usage answers what is on disk.
func (s *Store) Usage() (Usage, error) { return Usage{}, errSoon }
