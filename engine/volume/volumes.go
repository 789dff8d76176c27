// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// Config says where the volumes are.
type Config struct {
	Dir string       // made if missing
	Log *slog.Logger // default: none
}

// Volumes is every volume of one instance.
type Volumes struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex // guards the fields below and every change on disk
	volumes map[string]*Volume
	users   map[string]map[string]bool // volume -> who

	mounting sync.Mutex                 // guards the field below and the mounts; taken before mu
	mounted  map[string]map[string]bool // volume -> who runs with it
}

const (
	driverLocal  = "local"
	descFile     = "volume.json"
	dataDir      = "_data"
	copyDir      = ".copy"    // CopyUp on its way
	removePrefix = ".remove-" // the plan of a removal
)

// Open reads the volumes and finishes interrupted removals and copies.
func Open(cfg Config) (*Volumes, error) {
	v := &Volumes{dir: cfg.Dir, log: cfg.Log, volumes: map[string]*Volume{}, users: map[string]map[string]bool{}, mounted: map[string]map[string]bool{}}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if err := v.load(); err != nil {
		return nil, fmt.Errorf("open volumes in %s: %w", cfg.Dir, err)
	}
	return v, nil
}

func (v *Volumes) load() error {
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return err
	}
	if err := atomicfile.Sweep(v.dir); err != nil {
		return err
	}
	plans, err := filepath.Glob(filepath.Join(v.dir, removePrefix+"*"))
	if err != nil {
		return err
	}
	for _, plan := range plans {
		if err := v.finishRemoval(strings.TrimPrefix(filepath.Base(plan), removePrefix)); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := v.loadOne(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

func (v *Volumes) loadOne(name string) error {
	dir := filepath.Join(v.dir, name)
	if err := atomicfile.Sweep(dir); err != nil {
		return err
	}
	var vol Volume
	err := atomicfile.ReadJSON(filepath.Join(dir, descFile), &vol)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A creation that was never acknowledged. A folder with content is not one, and Check tells of it.
		if err := v.discard(name); err != nil {
			v.log.Warn("a folder among the volumes is none", "path", dir, "err", err)
		}
		return nil
	case err != nil:
		return err
	case vol.Version != 1 || vol.Name != name:
		return errs.New(errs.Invalid, "%s: version %d of volume %q is not one this Knarr can read", dir, vol.Version, vol.Name)
	}
	if err := errors.Join(atomicfile.Sweep(dir), os.RemoveAll(filepath.Join(dir, copyDir))); err != nil {
		return err
	}
	v.volumes[name] = &vol
	return nil
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)

// Create makes a volume, or returns the one of that name if it is there already (as Docker does); another driver is
// errs.Conflict. An empty name makes an anonymous volume with a random name of 64 hexadecimal digits; a caller that must know
// the name before the volume exists marks it by Docker's label for anonymous volumes instead.
func (v *Volumes) Create(name, driver string, labels, opts map[string]string) (Volume, error) {
	_, anonymous := labels["com.docker.volume.anonymous"]
	if name == "" {
		anonymous = true
		b := make([]byte, 32)
		rand.Read(b) // never fails
		name = hex.EncodeToString(b)
	}
	if !validName.MatchString(name) {
		return Volume{}, errs.New(errs.Invalid, "create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed; to pass a host folder, use an absolute path", name, name)
	}
	if driver == "" {
		driver = driverLocal
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if have := v.volumes[name]; have != nil {
		if have.Driver != driver {
			return Volume{}, errs.New(errs.Conflict, "volume %s exists with driver %s, not %s", name, have.Driver, driver)
		}
		return have.copy(), nil
	}
	if driver != driverLocal {
		return Volume{}, errs.New(errs.NotFound, "create %s: there is no volume driver %q, only %q", name, driver, driverLocal)
	}
	if err := checkOptions(opts); err != nil {
		return Volume{}, fmt.Errorf("create %s: %w", name, err)
	}
	vol := &Volume{Version: 1, Name: name, Driver: driver, Labels: maps.Clone(labels), Options: maps.Clone(opts), Anonymous: anonymous, Created: time.Now().UTC()}
	if err := v.create(vol); err != nil {
		return Volume{}, errors.Join(fmt.Errorf("create volume %s: %w", name, err), v.discard(name))
	}
	v.volumes[name] = vol
	return vol.copy(), nil
}

// create writes the description last: the volume exists from then on.
func (v *Volumes) create(vol *Volume) error {
	dir := filepath.Join(v.dir, vol.Name)
	if err := os.MkdirAll(filepath.Join(dir, dataDir), 0o755); err != nil {
		return err
	}
	// The umask must not decide what containers may do.
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chmod(filepath.Join(dir, dataDir), 0o755)); err != nil {
		return err
	}
	if text := vol.Options["size"]; text != "" {
		size, err := units.RAMInBytes(text)
		if err != nil {
			return err
		}
		if err := makeDisk(filepath.Join(dir, diskFile), size); err != nil {
			return err
		}
	}
	if err := atomicfile.WriteJSON(filepath.Join(dir, descFile), vol, 0o600); err != nil {
		return err
	}
	return atomicfile.SyncDir(v.dir)
}

// discard clears away what an unfinished creation made; Remove refuses anything else.
func (v *Volumes) discard(name string) error {
	dir := filepath.Join(v.dir, name)
	for _, path := range []string{filepath.Join(dir, diskFile), filepath.Join(dir, dataDir), dir} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Get returns a volume, or errs.NotFound.
func (v *Volumes) Get(name string) (Volume, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	vol, err := v.get(name)
	if err != nil {
		return Volume{}, err
	}
	return vol.copy(), nil
}

func (v *Volumes) get(name string) (*Volume, error) {
	if vol := v.volumes[name]; vol != nil {
		return vol, nil
	}
	return nil, errs.New(errs.NotFound, "no such volume: %s", name)
}

// List returns all volumes, by name.
func (v *Volumes) List() []Volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]Volume, 0, len(v.volumes))
	for _, vol := range v.volumes {
		out = append(out, vol.copy())
	}
	slices.SortFunc(out, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Path returns the folder to mount, or errs.NotFound.
func (v *Volumes) Path(name string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.get(name); err != nil {
		return "", err
	}
	return v.path(name), nil
}

func (v *Volumes) path(name string) string { return filepath.Join(v.dir, name, dataDir) }

// Remove removes a volume that nobody uses; in use is errs.Conflict.
func (v *Volumes) Remove(name string) error {
	v.mounting.Lock()
	defer v.mounting.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.get(name); err != nil {
		return err
	}
	if users := v.userList(name); len(users) > 0 {
		return errs.New(errs.Conflict, "remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
	}
	if err := atomicfile.Write(v.plan(name), nil, 0o600); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	delete(v.volumes, name)
	if err := v.finishRemoval(name); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

func (v *Volumes) plan(name string) string { return filepath.Join(v.dir, removePrefix+name) }

// finishRemoval does what a plan says; doing it twice does no harm. os.RemoveAll never follows a link.
func (v *Volumes) finishRemoval(name string) error {
	if !validName.MatchString(name) {
		return errs.New(errs.Invalid, "%s is no plan of ours", v.plan(name))
	}
	if err := v.unmount(name); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(v.dir, name)); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(v.dir); err != nil {
		return err
	}
	return os.Remove(v.plan(name))
}

// Acquire says that user (a container's id) uses the volume. Saying it again changes nothing.
func (v *Volumes) Acquire(name, user string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.get(name); err != nil {
		return err
	}
	if v.users[name] == nil {
		v.users[name] = map[string]bool{}
	}
	v.users[name][user] = true
	return nil
}

// Release takes back what Acquire said. Unknown volume or user is no error.
func (v *Volumes) Release(name, user string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.users[name], user)
	if len(v.users[name]) == 0 {
		delete(v.users, name)
	}
}

// Users lists who uses a volume.
func (v *Volumes) Users(name string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.userList(name)
}

func (v *Volumes) userList(name string) []string { return slices.Sorted(maps.Keys(v.users[name])) }

func (vol *Volume) copy() Volume {
	out := *vol
	out.Labels, out.Options = maps.Clone(vol.Labels), maps.Clone(vol.Options)
	return out
}
