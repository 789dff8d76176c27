// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// snapshotRecord is snapshots/<key>/snapshot.json.
type snapshotRecord struct {
	Version int             `json:"version"`
	Key     string          `json:"key"`
	Image   digest.Digest   `json:"image,omitempty"`
	Chain   []digest.Digest `json:"chain"` // chainIDs, bottom first

	InitLayer string   `json:"initLayer"`      // name of the init layer's folder
	Init      []string `json:"init,omitempty"` // its files whose changes are never committed
}

var validKey = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

func checkKey(key string) error {
	if !validKey.MatchString(key) {
		return errs.New(errs.Invalid, "invalid snapshot key %.200q", key)
	}
	return nil
}

// Prepare makes a snapshot of img under key ([a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 128). An existing key is errs.Exists.
// The zero Image is the empty root file system.
func (s *Store) Prepare(ctx context.Context, key string, img Image, files InitFiles) (Snapshot, error) {
	if err := checkKey(key); err != nil {
		return Snapshot{}, err
	}
	release, err := s.once(ctx, digest.Digest("snapshot:"+key))
	if err != nil {
		return Snapshot{}, err
	}
	defer release()
	rec := &snapshotRecord{Version: formatVersion, Key: key, Image: img.ID, Chain: chainIDs(img.Layers)}
	h := s.newHold()
	defer h.release()
	if err := s.holdChain(h, key, img, rec.Chain); err != nil {
		return Snapshot{}, err
	}
	init, err := s.useInit(ctx, rec.Chain, files)
	if err == nil {
		rec.InitLayer, rec.Init = init.name, init.skip
		if err = s.makeSnapshot(rec, files.Volatile); err != nil {
			s.freeInit(init.name)
		}
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("prepare snapshot %s: %w", key, err)
	}
	return s.snapshot(rec), nil
}

func (s *Store) holdChain(h *hold, key string, img Image, chain []digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snaps[key] != nil {
		return errs.New(errs.Exists, "snapshot %s exists already", key)
	}
	for _, c := range chain {
		if s.layers[c] == nil {
			return notFound(string(img.ID))
		}
	}
	for _, c := range chain {
		h.add(c)
	}
	return nil
}

func (s *Store) makeSnapshot(rec *snapshotRecord, volatile bool) error {
	tmp, err := s.temp("snapshot")
	if err != nil {
		return err
	}
	defer s.discard(tmp)
	for _, d := range []string{"rw", "work"} {
		if err := mkdirMode(filepath.Join(tmp, d), 0o755); err != nil {
			return err
		}
	}
	if err := s.copyRootAttributes(rec.Chain, filepath.Join(tmp, "rw")); err != nil {
		return err
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteVolatile(filepath.Join(tmp, snapshotFile), data, 0o600); err != nil {
		return err
	}
	dir := s.path(snapshotsDir, rec.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Lstat(dir); err == nil { // left out at Open: it was never complete
		s.discard(dir)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	if !volatile {
		if err := syncSnapshot(dir, s.initDir(rec.InitLayer), rec); err != nil {
			return err
		}
	}
	s.snaps[rec.Key] = rec
	return nil
}

const snapshotFile = "snapshot.json"

// syncSnapshot makes a new snapshot durable. It syncs all at once, after the rename, because a journal commits together what
// waits together: one after the other they would take a commit each. A crash in between leaves what Open passes over.
func syncSnapshot(dir, init string, rec *snapshotRecord) error {
	var g errgroup.Group
	for _, d := range []string{filepath.Dir(dir), dir, filepath.Dir(filepath.Dir(init)), filepath.Dir(init), init} {
		g.Go(func() error { return atomicfile.SyncDir(d) })
	}
	files := []string{filepath.Join(dir, snapshotFile)}
	for _, n := range rec.Init {
		files = append(files, filepath.Join(init, n))
	}
	for _, n := range files {
		g.Go(func() error {
			fd, err := unix.Open(n, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if errors.Is(err, unix.ENOENT) { // the image has it, or has no place for it
				return nil
			}
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Fsync(fd)
		})
	}
	return g.Wait()
}

func mkdirMode(dir string, mode fs.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	return os.Chmod(dir, mode) // whatever the umask
}

// copyRootAttributes gives the new layers' roots the mode and owner of the image's: the topmost root shows in a mount.
func (s *Store) copyRootAttributes(chain []digest.Digest, dirs ...string) error {
	if len(chain) == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.layerFS(lastOf(chain)), &st); err != nil {
		return err
	}
	for _, d := range dirs {
		if err := unix.Lchown(d, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
		if err := unix.Chmod(d, st.Mode&0o7777); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) snapshot(rec *snapshotRecord) Snapshot {
	dir := s.path(snapshotsDir, rec.Key)
	lower := append([]string{s.initDir(rec.InitLayer)}, s.fsDirs(rec.Chain)...)
	return Snapshot{Key: rec.Key, Image: rec.Image, Dir: dir, RW: filepath.Join(dir, "rw"), Work: filepath.Join(dir, "work"), Lower: lower}
}

// Snapshot finds one by key.
func (s *Store) Snapshot(key string) (Snapshot, error) {
	rec, err := s.findSnapshot(key)
	if err != nil {
		return Snapshot{}, err
	}
	return s.snapshot(rec), nil
}

func (s *Store) findSnapshot(key string) (*snapshotRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec := s.snaps[key]; rec != nil {
		return rec, nil
	}
	return nil, errs.New(errs.NotFound, "no such snapshot: %s", key)
}

// Snapshots lists the keys, sorted.
func (s *Store) Snapshots() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]string, 0, len(s.snaps))
	for k := range s.snaps {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// RemoveSnapshot deletes a snapshot, which must not be mounted; a missing one is no error. When it returns the snapshot is
// out of sight; its space is freed behind the caller's back, because giving back each directory may cost a millisecond.
func (s *Store) RemoveSnapshot(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	s.mu.Lock()
	rec, known := s.snaps[key]
	if !known {
		s.mu.Unlock()
		return nil
	}
	trash, err := s.hide(s.path(snapshotsDir, key))
	if err == nil {
		delete(s.snaps, key)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.freeInit(rec.InitLayer)
	if trash != "" {
		s.inBackground(func() { s.burn(trash) })
	}
	return nil
}

// inBackground runs what frees space. Close waits for it; a kill leaves the rest to the next Open.
func (s *Store) inBackground(f func()) {
	s.burning.Add(1)
	go func() {
		defer s.burning.Done()
		f()
	}()
}

func (s *Store) readSnapshots() error {
	entries, err := os.ReadDir(s.path(snapshotsDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		rec := &snapshotRecord{}
		err := atomicfile.ReadJSON(s.path(snapshotsDir, e.Name(), snapshotFile), rec)
		if err != nil || rec.Key != e.Name() || rec.InitLayer == "" || !isFolder(s.initDir(rec.InitLayer)) { // torn by a crash before Prepare had answered
			s.log.Error("image store: snapshot left out", "key", e.Name(), "err", err)
			continue
		}
		s.snaps[rec.Key] = rec
	}
	return nil
}

func isFolder(name string) bool {
	fi, err := os.Lstat(name)
	return err == nil && fi.IsDir()
}

// SnapshotUsage answers the bytes on disk and the inodes of the read-write layer.
func (s *Store) SnapshotUsage(key string) (bytes, inodes int64, err error) {
	rec, err := s.findSnapshot(key)
	if err != nil {
		return 0, 0, err
	}
	bytes, inodes, err = diskUsage(s.snapshot(rec).RW)
	var root unix.Stat_t // every snapshot has it: it is nothing of the container's
	if err == nil && unix.Lstat(s.snapshot(rec).RW, &root) == nil {
		bytes, inodes = bytes-root.Blocks*512, inodes-1
	}
	return bytes, inodes, err
}

func diskUsage(root string) (bytes, inodes int64, err error) {
	err = filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(p, &st)
		}
		if errors.Is(err, fs.ErrNotExist) { // a live container removes files
			return nil
		}
		bytes, inodes = bytes+st.Blocks*512, inodes+1
		return err
	})
	return bytes, inodes, err
}
