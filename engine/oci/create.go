// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 bundles may still have prestart hooks

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// CreateOptions are what a container needs beside its bundle.
type CreateOptions struct {
	Stdio    [3]*os.File // nil is the caller's own
	Console  *os.File    // a connected unix socket that gets the terminal's master; needed with process.terminal
	PidFile  string
	Filter   *Filter // the bundle's seccomp policy in compiled form, if the caller has it
	Preserve int     // descriptors from 3 on that the program inherits
}

// Create makes the container of the bundle; its init then waits for Start. It returns init's pid, a child of the caller.
func (r Runtime) Create(id, bundle string, o CreateOptions) (pid int, err error) {
	if err := ValidateID(id); err != nil {
		return 0, err
	}
	spec, policy, bundle, err := loadSpec(bundle)
	if err != nil {
		return 0, err
	}
	c := creation{runtime: r, id: id, bundle: bundle, spec: spec, policy: policy, CreateOptions: o}
	if err := c.prepare(); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(r.Root, 0o700); err != nil {
		return 0, err
	}
	if err := os.Mkdir(r.dir(id), 0o700); errors.Is(err, fs.ErrExist) {
		return 0, errs.New(errs.Exists, "container with given ID already exists: %q", id)
	} else if err != nil {
		return 0, err
	}
	if err := c.run(); err != nil {
		c.undo()
		return 0, err
	}
	return c.pid, nil
}

// creation is one Create under way.
type creation struct {
	CreateOptions
	runtime Runtime
	id      string
	bundle  string
	spec    *specs.Spec
	policy  json.RawMessage // linux.seccomp
	rootfs  string
	layout  cgroup.Layout
	group   *cgroup.Cgroup
	made    bool // the group did not exist before
	config  initConfig
	pid     int

	rootMounts int // what was mounted on the root file system's directory before
}

// prepare checks everything that can be checked before anything is made.
func (c *creation) prepare() error {
	if err := validateProcess(c.spec.Process); err != nil {
		return err
	}
	if c.spec.Root == nil || c.spec.Root.Path == "" {
		return errs.New(errs.Invalid, "root.path: missing")
	}
	c.rootfs = c.spec.Root.Path
	if !filepath.IsAbs(c.rootfs) {
		c.rootfs = filepath.Join(c.bundle, c.rootfs)
	}
	rootfs, err := filepath.EvalSymlinks(c.rootfs)
	if err != nil {
		return fmt.Errorf("root.path: %w", err)
	}
	c.rootfs = rootfs
	if c.spec.Linux == nil {
		c.spec.Linux = new(specs.Linux)
	}
	if c.layout, err = cgroup.Detect(); err != nil {
		return err
	}
	path := c.cgroupPath()
	steps, err := Steps(c.spec, Facts{Rootfs: c.rootfs, CgroupV1: c.layout.V1, CgroupV2: c.layout.Unified, CgroupPath: path})
	if err != nil {
		return err
	}
	if c.spec.Process.Terminal && c.Console == nil {
		return errs.New(errs.Invalid, "process.terminal is set, but nobody takes the terminal: give a console socket")
	}
	c.config = initConfig{Steps: steps, Process: c.spec.Process, Gate: true, Console: c.Console != nil,
		Preserve: c.Preserve, State: c.state(specs.StateCreating)}
	if c.config.Seccomp, err = c.Filter.of(c.policy); err != nil {
		return err
	}
	if c.config.Standing, err = standingOf(c.spec.Process, c.spec.Linux); err != nil {
		return err
	}
	have, err := availableCaps(c.userNS())
	if err != nil {
		return err
	}
	var warnings []string
	c.config.Caps, warnings = resolveCaps(c.spec.Process.Capabilities, have)
	c.runtime.warnAll(warnings)
	if h := c.spec.Hooks; h != nil {
		c.config.Hooks = h
		c.config.HostHooks = len(h.Prestart)+len(h.CreateRuntime) > 0
	}
	c.group, err = c.layout.Open(path)
	return err
}

// cgroupPath is the group that the spec names, or one by the container's id. "slice:prefix:name" is the form
// of runtimes driven by systemd; it becomes a plain path here.
func (c *creation) cgroupPath() string {
	p := c.spec.Linux.CgroupsPath
	if f := strings.Split(p, ":"); len(f) == 3 {
		p = f[0] + "/" + f[1] + "-" + f[2] + ".scope"
	}
	if p == "" {
		p = "knarr/" + c.id
	}
	return filepath.Join("/", p)
}

// userNS says whether the container's root is another than the host's.
func (c *creation) userNS() bool { return hasNamespace(c.spec, specs.UserNamespace) }

func mapsRoot(list []syscall.SysProcIDMap) bool {
	for _, m := range list {
		if m.ContainerID == 0 && m.Size > 0 {
			return true
		}
	}
	return false
}

func hasNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == t {
			return true
		}
	}
	return false
}

func (c *creation) state(status specs.ContainerState) specs.State {
	return specs.State{Version: specs.Version, ID: c.id, Status: status, Pid: c.pid, Bundle: c.bundle, Annotations: c.spec.Annotations}
}

func (c *creation) run() error {
	if c.sharesMounts() {
		c.rootMounts = mountsOn(c.rootfs)
	}
	path := c.group.Path()
	c.made = !c.group.Exists()
	if _, err := c.layout.Create(path); err != nil && !c.goWithout(err) {
		return err
	}
	gate, err := listenGate(c.runtime.dir(c.id))
	if err != nil {
		return err
	}
	defer gate.Close()
	ours, theirs, err := socketpair()
	if err != nil {
		return err
	}
	defer ours.Close()
	err = c.spawn(theirs, gate)
	theirs.Close()
	if err != nil {
		return err
	}
	c.config.State.Pid = c.pid
	if c.userNS() {
		// Inside its user namespace init may raise nothing.
		warnings, err := limits(c.spec.Process, c.pid)
		if err != nil {
			return err
		}
		c.runtime.warnAll(warnings)
		c.config.LimitsSet = true
	}
	if err := c.converse(newWire(ours)); err != nil {
		return err
	}
	resources := c.spec.Linux.Resources
	if resources != nil && len(resources.Devices) > 0 {
		r := *resources
		r.Devices = append(append([]specs.LinuxDeviceCgroup{}, r.Devices...), allowedDevices()...)
		resources = &r
	}
	if c.group != nil {
		if err := c.group.Apply(resources); err != nil {
			return err
		}
	}
	return c.save()
}

// goWithout lets an ordinary user's container live in the group of its caller, where he may make none. Limits cannot be had then, and
// one that silently does not hold is worse than none; device rules alone hold anyway, as he can make no device.
func (c *creation) goWithout(err error) bool {
	denied := errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
	if unix.Geteuid() == 0 || !denied || limited(c.spec.Linux.Resources) {
		return false
	}
	c.runtime.warn("no cgroup of its own, and so no pause, no statistics and no kill of all: %v", err)
	c.group, c.made = nil, false
	return true
}

// limited says whether anything but devices is asked for.
func limited(r *specs.LinuxResources) bool {
	if r == nil {
		return false
	}
	rest := *r
	rest.Devices = nil
	return !reflect.DeepEqual(rest, specs.LinuxResources{})
}

func (c *creation) spawn(wire, gate *os.File) error {
	b := birth{group: c.group, timeNS: c.spec.Linux.TimeOffsets}
	done, newCgroup, err := b.openNamespaces(c.spec.Linux.Namespaces)
	defer done()
	if err != nil {
		return err
	}
	c.config.NewCgroup = newCgroup
	if b.flags&unix.CLONE_NEWUSER != 0 {
		b.uids, b.gids = idMap(c.spec.Linux.UIDMappings), idMap(c.spec.Linux.GIDMappings)
		if !mapsRoot(b.uids) || !mapsRoot(b.gids) {
			return errs.New(errs.Invalid, "linux.uidMappings, linux.gidMappings: a new user namespace needs a mapping of its id 0 in both")
		}
	}
	trees, err := openTrees(c.config.Steps, c.userNS() && b.mountFD < 0 && unix.Geteuid() == 0)
	defer func() {
		for _, f := range trees {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	std := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	for i, f := range c.Stdio {
		if f != nil {
			std[i] = f
		}
	}
	b.files = append(b.files, std[:]...)
	for i := range c.Preserve {
		b.files = append(b.files, os.NewFile(uintptr(3+i), "preserved"))
	}
	b.files = append(b.files, wire, gate)
	if c.Console != nil {
		b.files = append(b.files, c.Console)
	}
	if b.mountFD >= 0 {
		dup, err := unix.FcntlInt(uintptr(b.mountFD), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return err
		}
		trees = append(trees, os.NewFile(uintptr(dup), "mnt"))
		c.config.MountNS = len(trees)
	}
	b.files = append(b.files, trees...)
	b.args = c.runtime.initArgs(c.Preserve)
	c.pid, err = spawn(b)
	return err
}

func (r Runtime) initArgs(preserve int) []string {
	args := r.Init
	if len(args) == 0 {
		args = []string{"init"}
	}
	return append(append([]string{"knarr-shim"}, args...), strconv.Itoa(preserve))
}

func idMap(list []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var m []syscall.SysProcIDMap
	for _, l := range list {
		m = append(m, syscall.SysProcIDMap{ContainerID: int(l.ContainerID), HostID: int(l.HostID), Size: int(l.Size)})
	}
	return m
}

// converse is the parent's part of the protocol, until init is ready.
func (c *creation) converse(w *wire) error {
	if err := w.enc.Encode(c.config); err != nil {
		return c.died(err)
	}
	for {
		var m message
		if err := w.dec.Decode(&m); err != nil {
			return c.died(err)
		}
		switch m.Say {
		case sayReady:
			c.runtime.warnAll(m.Warnings)
			return nil
		case sayHooks:
			h := c.spec.Hooks
			err := runHooks("prestart", h.Prestart, c.state(specs.StateCreated)) // as runc and crun tell these, of old
			if err == nil {
				err = runHooks("createRuntime", h.CreateRuntime, c.state(specs.StateCreating))
			}
			if err != nil {
				return err
			}
			if err := w.enc.Encode(message{Say: sayGo}); err != nil {
				return c.died(err)
			}
		default:
			return m.err()
		}
	}
}

// died explains an init that went away without a word.
func (c *creation) died(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.New(errs.Unavailable, "init ended before the container was ready; was it killed for want of memory?")
	}
	return fmt.Errorf("talk to init: %w", err)
}

func (c *creation) save() error {
	st, err := processStat(c.pid)
	if err != nil {
		return fmt.Errorf("init is gone: %w", err)
	}
	s := state{Version: 1, ID: c.id, Bundle: c.bundle, Rootfs: c.rootfs, Pid: c.pid, StartTime: st.start, Created: time.Now().UTC(),
		Cgroup: c.groupPath(), Annotations: c.spec.Annotations, Hooks: c.spec.Hooks, Seccomp: c.config.Seccomp,
		NoNewPrivs: c.spec.Process.NoNewPrivileges, OwnCgroup: c.made, SharedPID: c.sharesPID(), Chroot: c.config.MountNS > 0 || c.sharesMounts(), HostMounts: c.sharesMounts()}
	for _, n := range c.spec.Linux.Namespaces {
		s.Namespaces = append(s.Namespaces, string(n.Type))
	}
	if err := writeJSONVolatile(filepath.Join(c.runtime.dir(c.id), stateFile), s); err != nil {
		return err
	}
	if c.PidFile != "" {
		return atomicfile.WriteVolatile(c.PidFile, []byte(strconv.Itoa(c.pid)), 0o644)
	}
	return nil
}

func (c *creation) groupPath() string {
	if c.group == nil {
		return ""
	}
	return c.group.Path()
}

// sharesMounts says whether the container's mounts are the host's too, and so somebody has to unmount them.
func (c *creation) sharesMounts() bool { return !hasNamespace(c.spec, specs.MountNamespace) }

// sharesPID says whether init is not the first of its pid namespace, so that its end does not end the others.
func (c *creation) sharesPID() bool {
	for _, n := range c.spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			return n.Path != ""
		}
	}
	return true
}

// undo leaves nothing of a create that did not succeed.
func (c *creation) undo() {
	if c.pid > 0 {
		_ = unix.Kill(c.pid, unix.SIGKILL)
		_, _ = unix.Wait4(c.pid, nil, 0, nil)
	}
	if c.sharesMounts() {
		unmountRoot(c.rootfs, c.rootMounts)
	}
	if c.made && c.group != nil {
		_ = c.group.Kill()
		_ = c.group.Delete()
	}
	_ = os.RemoveAll(c.runtime.dir(c.id))
}

// allowedDevices are the nodes every container has, as device rules: a spec that denies all means all others.
func allowedDevices() []specs.LinuxDeviceCgroup {
	number := func(n int64) *int64 { return &n }
	rule := func(typ string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: typ, Major: number(major), Minor: number(minor), Access: access}
	}
	rules := []specs.LinuxDeviceCgroup{rule("c", -1, -1, "m"), rule("b", -1, -1, "m")}
	for _, d := range defaultDevices {
		rules = append(rules, rule("c", d.Major, d.Minor, "rwm"))
	}
	return append(rules, rule("c", 136, -1, "rwm"), rule("c", 5, 2, "rwm"), rule("c", 5, 1, "rwm"))
}

func socketpair() (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "wire"), os.NewFile(uintptr(fds[1]), "wire"), nil
}
