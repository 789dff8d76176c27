// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/onlyone"
)

// Config of a Store.
type Config struct {
	Dir    string       // made if missing, mode 0700
	Limits layer.Limits // of each layer unpacked; zero fields are the defaults
	Log    *slog.Logger // nil: slog.Default

	Registries Registries
}

// Store is the image store of one daemon.
type Store struct {
	dir    string
	limits layer.Limits
	log    *slog.Logger
	lock   *os.File
	remote Registries

	burning sync.WaitGroup // removals of what is hidden already

	mu     sync.Mutex                      // guards what follows; files change only while it is held, bulk content excepted
	images map[digest.Digest]*Image        // complete, immutable values
	names  map[string]digest.Digest        // normalised name:tag
	layers map[digest.Digest]*layerRecord  // by chainID
	snaps  map[string]*snapshotRecord      // by key
	inits  map[string]*initLayer           // by name
	idle   []string                        // names of init layers that no snapshot uses, the longest idle first
	held   map[digest.Digest]int           // chainIDs and blobs that running work needs
	busy   map[digest.Digest]chan struct{} // layers and blobs being made
	leases int                             // builds that run: their unnamed steps are not to be collected
}

// The folders of a store.
const (
	blobsDir     = "blobs/sha256"
	imagesDir    = "images"
	layersDir    = "layers"
	snapshotsDir = "snapshots"
	initsDir     = "inits"
	partialDir   = "partial" // what is being made; swept at Open, downloads excepted
	downloadsDir = "downloads"
	trashDir     = "trash" // what is being removed; emptied at Open
	plansDir     = "plans"
	emptyDir     = "empty" // directories to fill an overlay up with
	namesFile    = "names.json"
	versionFile  = "version"
	lockFile     = "lock"
)

const formatVersion = 1

// Open locks the store, finishes or sweeps what a crash left, and reads its tables.
func Open(cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := cfg.Registries.Validate(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, limits: cfg.Limits, log: cfg.Log, remote: cfg.Registries, images: map[digest.Digest]*Image{}, names: map[string]digest.Digest{},
		layers: map[digest.Digest]*layerRecord{}, snaps: map[string]*snapshotRecord{}, inits: map[string]*initLayer{}, held: map[digest.Digest]int{}, busy: map[digest.Digest]chan struct{}{}}
	if err := s.open(); err != nil {
		s.Close()
		return nil, fmt.Errorf("open image store %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	for _, d := range []string{"", blobsDir, imagesDir, layersDir, snapshotsDir, initsDir, partialDir, downloadsDir, trashDir, plansDir} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return err
		}
	}
	var err error
	if s.lock, err = onlyone.Take(s.path(lockFile)); errors.Is(err, onlyone.ErrTaken) {
		return errs.New(errs.Conflict, "%w", err)
	} else if err != nil {
		return err
	}
	if err := s.checkVersion(); err != nil {
		return err
	}
	return s.recover()
}

func (s *Store) checkVersion() error {
	var v struct{ Version int }
	err := atomicfile.ReadJSON(s.path(versionFile), &v)
	if errors.Is(err, fs.ErrNotExist) {
		v.Version = formatVersion
		return atomicfile.WriteJSON(s.path(versionFile), v, 0o600)
	}
	if err == nil && v.Version != formatVersion {
		return errs.New(errs.Unsupported, "the store has format %d, this program reads %d", v.Version, formatVersion)
	}
	return err
}

// Close waits for removals that go on and releases the lock. Mounted snapshots stay mounted.
func (s *Store) Close() error {
	s.burning.Wait()
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// once lets one caller at a time make the thing named key: it waits until no other does, and answers how to let go.
func (s *Store) once(ctx context.Context, key digest.Digest) (func(), error) {
	for {
		s.mu.Lock()
		wait, taken := s.busy[key]
		if !taken {
			done := make(chan struct{})
			s.busy[key] = done
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.busy, key)
				s.mu.Unlock()
				close(done)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// A hold keeps chainIDs and blobs from being collected until it is released.
type hold struct {
	s    *Store
	keys []digest.Digest // guarded by s.mu
}

func (s *Store) newHold() *hold { return &hold{s: s} }

// add needs s.mu.
func (h *hold) add(key digest.Digest) {
	h.s.held[key]++
	h.keys = append(h.keys, key)
}

func (h *hold) lockAdd(key digest.Digest) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.add(key)
}

func (h *hold) release() {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	for _, k := range h.keys {
		if h.s.held[k]--; h.s.held[k] == 0 {
			delete(h.s.held, k)
		}
	}
	h.keys = nil
}

// Lease keeps build steps (Image.Cache) from being collected until release is called: the caller goes from one to the next.
func (s *Store) Lease() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.leases--
	})
}

// temp makes a new folder in partial.
func (s *Store) temp(kind string) (string, error) {
	return os.MkdirTemp(s.path(partialDir), kind+"-")
}

// discard removes a folder of this store, first out of sight, then in truth. It is best effort: what stays is swept at Open.
func (s *Store) discard(dir string) {
	trash, err := s.hide(dir)
	if err != nil {
		s.log.Warn("image store: cannot discard", "dir", dir, "err", err)
	}
	if trash != "" {
		s.burn(trash)
	}
}

// discardLater takes a folder out of sight at once and frees its space in the background.
func (s *Store) discardLater(dir string) {
	trash, err := s.hide(dir)
	if err != nil {
		s.log.Warn("image store: cannot discard", "dir", dir, "err", err)
	}
	if trash != "" {
		s.inBackground(func() { s.burn(trash) })
	}
}

// hide moves a folder into trash; a missing one is "".
func (s *Store) hide(dir string) (string, error) {
	to := s.path(trashDir, fmt.Sprintf("%s-%d", filepath.Base(dir), time.Now().UnixNano()))
	err := os.Rename(dir, to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	}
	return to, nil
}

// burn removes a folder in trash.
func (s *Store) burn(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		s.log.Warn("image store: cannot remove, will try again at the next start", "dir", dir, "err", err)
	}
}
