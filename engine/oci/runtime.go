// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Runtime is a directory of containers. It may be used by several processes at once; each verb on one container is serial to the
// others by the kernel's and the file system's own atomicity (mkdir, connect), not by a lock.
type Runtime struct {
	Root string   // state directory, 0700; made when missing
	Init []string // arguments that lead this same binary to Init; {"init"} if empty
	Warn func(string)
}

// Status values beyond the specification's.
const StatusPaused specs.ContainerState = "paused"

// state is state.json.
type state struct {
	Version     int               `json:"version"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Pid         int               `json:"pid"`
	StartTime   uint64            `json:"startTime"` // of the pid, in clock ticks since boot: a pid alone may be another's
	Created     time.Time         `json:"created"`
	Cgroup      string            `json:"cgroup"`
	Namespaces  []string          `json:"namespaces"` // those that are not the host's
	Annotations map[string]string `json:"annotations,omitempty"`
	Hooks       *specs.Hooks      `json:"hooks,omitempty"`
	Seccomp     *filter           `json:"seccomp,omitempty"`
	NoNewPrivs  bool              `json:"noNewPrivs,omitempty"`
	SharedPID   bool              `json:"sharedPid,omitempty"`  // its processes may outlive init
	Chroot      bool              `json:"chroot,omitempty"`     // the mount namespace is another's, and the root only this process's
	HostMounts  bool              `json:"hostMounts,omitempty"` // they lie on Rootfs in the host's mount namespace
	OwnCgroup   bool              `json:"ownCgroup"`
	Owner       string            `json:"owner,omitempty"`
}

const (
	stateFile = "state.json"
	gateFile  = "start.sock"
)

// Container is what List and State tell about one container.
type Container struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	Owner   string    `json:"owner"`
}

// ValidateID refuses ids that are no plain file names.
func ValidateID(id string) error {
	ok := id != "" && len(id) <= 255 && id != "." && id != ".."
	for i, r := range id {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 && r != '_' || !bytes.ContainsRune([]byte("_.+-"), r)) {
			ok = false
		}
	}
	if !ok {
		return errs.New(errs.Invalid, "invalid container id %q: letters, digits, _ . + and - only", id)
	}
	return nil
}

func (r Runtime) dir(id string) string { return filepath.Join(r.Root, id) }

func (r Runtime) warn(format string, args ...any) {
	if r.Warn != nil {
		r.Warn(fmt.Sprintf(format, args...))
	}
}

func (r Runtime) warnAll(list []string) {
	for _, w := range list {
		r.warn("%s", w)
	}
}

func (r Runtime) load(id string) (*state, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	s := new(state)
	err := atomicfile.ReadJSON(filepath.Join(r.dir(id), stateFile), s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "container %q does not exist", id)
	}
	return s, err
}

// State says what the container is doing now.
func (r Runtime) State(id string) (*Container, error) {
	s, err := r.load(id)
	if err != nil {
		return nil, err
	}
	c := &Container{Rootfs: s.Rootfs, Created: s.Created, Owner: "root"}
	c.State = specs.State{Version: specs.Version, ID: s.ID, Bundle: s.Bundle, Annotations: s.Annotations, Status: r.status(s)}
	if c.Status != specs.StateStopped {
		c.Pid = s.Pid
	}
	return c, nil
}

func (r Runtime) status(s *state) specs.ContainerState {
	if !s.alive() {
		return specs.StateStopped
	}
	if _, err := os.Lstat(filepath.Join(r.dir(s.ID), gateFile)); err == nil {
		return specs.StateCreated
	}
	if g, err := s.group(); err == nil && g.Frozen() {
		return StatusPaused
	}
	return specs.StateRunning
}

// List gives every container below Root; one that is half made or half gone is left out.
func (r Runtime) List() ([]Container, error) {
	entries, err := os.ReadDir(r.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Container
	for _, e := range entries {
		if c, err := r.State(e.Name()); err == nil {
			all = append(all, *c)
		}
	}
	return all, nil
}

// alive says whether init still runs; a zombie does not.
func (s *state) alive() bool {
	st, err := processStat(s.Pid)
	return err == nil && st.start == s.StartTime && st.state != 'Z' && st.state != 'X'
}

// pidfd opens init such that the answer cannot be about another process with the same pid.
func (s *state) pidfd() (int, error) {
	fd, err := unix.PidfdOpen(s.Pid, 0)
	if err == nil && !s.alive() {
		unix.Close(fd)
		err = unix.ESRCH
	}
	if err == unix.ESRCH {
		return -1, errs.New(errs.Gone, "container %q is not running", s.ID)
	}
	return fd, err
}

func (s *state) group() (*cgroup.Cgroup, error) {
	if s.Cgroup == "" {
		return nil, errs.New(errs.Unsupported, "container %q has no cgroup of its own: its user may make none here", s.ID)
	}
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	return layout.Open(s.Cgroup)
}

type procStat struct {
	state byte
	start uint64
}

// processStat reads fields 3 and 22 of /proc/<pid>/stat; the name before them may hold anything.
func processStat(pid int) (procStat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return procStat{}, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	start, err := strconv.ParseUint(string(f[19]), 10, 64)
	return procStat{state: f[0][0], start: start}, err
}
