// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Op is what a Step does.
type Op string

// The operations. Targets are paths inside the container's root.
const (
	OpLoopback    Op = "loopback"    // bring lo up
	OpHostname    Op = "hostname"    // Value
	OpDomainname  Op = "domainname"  // Value
	OpPropagation Op = "propagation" // set Flags on the host's tree in this namespace
	OpRoot        Op = "root"        // clone the mount at Source; it becomes the root all targets are below
	OpMount       Op = "mount"       // a new file system of FSType at Target
	OpBind        Op = "bind"        // the tree at Source, on the host, at Target
	OpMkdir       Op = "mkdir"       // Target, with parents
	OpDevice      Op = "device"      // a device node at Target
	OpSymlink     Op = "symlink"     // Target points to Source
	OpConsole     Op = "console"     // a pseudo-terminal of the container's own devpts, also at /dev/console
	OpMask        Op = "mask"        // hide Target; a missing one is no error
	OpReadonly    Op = "readonly"    // bind Target on itself, read-only; a missing one is no error
	OpSysctl      Op = "sysctl"      // Target is the file below /proc/sys, Value its content
	OpHooks       Op = "hooks"       // the runtime's and then the container's hooks
	OpReadonlyTop Op = "readonlytop" // the root itself becomes read-only
	OpPivot       Op = "pivot"       // the root becomes /, the host's tree goes
)

// Step is one thing init does. Which fields count depends on Op.
type Step struct {
	Op          Op       `json:"op"`
	Source      string   `json:"source,omitempty"`
	Target      string   `json:"target,omitempty"`
	FSType      string   `json:"fstype,omitempty"`
	Options     []string `json:"options,omitempty"`     // for the file system, not the mount
	Attr        Attr     `json:"attr,omitzero"`         // of the mount
	RecAttr     Attr     `json:"recAttr,omitzero"`      // of the mount and all below it
	Propagation []uint64 `json:"propagation,omitempty"` // MS_SHARED … , each with or without MS_REC
	Recursive   bool     `json:"recursive,omitempty"`   // bind what is mounted below Source too
	CopyUp      bool     `json:"copyUp,omitempty"`      // fill a tmpfs with what was there
	Flags       uint64   `json:"flags,omitempty"`
	Device      Device   `json:"device,omitzero"`
	Value       string   `json:"value,omitempty"`
	IDMap       *IDMap   `json:"idMap,omitempty"`    // of the mount that OpBind makes
	Tree        int      `json:"tree,omitempty"`     // OpRoot, OpBind: the parent opened Source; which of its descriptors, from 1
	Chroot      bool     `json:"chroot,omitempty"`   // OpRoot, OpPivot: the mount namespace is somebody else's, whose root stays
	Fallback    bool     `json:"fallback,omitempty"` // OpMount: where the kernel refuses, bind the host's
}

// IDMap says which ids of the file system show as which of the container, on one mount (mount_setattr(2), MOUNT_ATTR_IDMAP).
type IDMap struct {
	UIDs      []specs.LinuxIDMapping `json:"uids"`
	GIDs      []specs.LinuxIDMapping `json:"gids"`
	Recursive bool                   `json:"recursive,omitempty"`
}

// Attr are MOUNT_ATTR_* bits to set and to clear.
type Attr struct {
	Set   uint64 `json:"set,omitempty"`
	Clear uint64 `json:"clear,omitempty"`
}

// Device is a node to make. Bind asks for the host's node to be bound, where the kernel forbids mknod.
type Device struct {
	Type         string `json:"type"`
	Major, Minor int64
	Mode         uint32
	UID, GID     uint32
	Bind         bool `json:"bind,omitempty"`
}

// Facts are what Steps needs to know about the machine.
type Facts struct {
	Rootfs     string              // absolute path of the root file system on the host
	CgroupV1   map[string]string   // controller to its mount point; nil on a pure v2 machine
	CgroupV2   string              // mount point of the v2 tree, or empty
	CgroupPath string              // the container's group
	Devices    []specs.LinuxDevice // every device of the host, for a caller that wants them; usually nil
}

var defaultDevices = [...]specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
}

// defaultLinks are pairs of target and name (config-linux, "Default Devices").
var defaultLinks = [...][2]string{
	{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"}, {"/proc/kcore", "/dev/core"}, {"pts/ptmx", "/dev/ptmx"},
}

// Steps says what init has to do to make the container that spec describes, in order. It reports every fault it finds.
func Steps(spec *specs.Spec, f Facts) ([]Step, error) {
	b := builder{spec: spec, facts: f, linux: spec.Linux}
	if b.linux == nil {
		b.linux = &specs.Linux{}
	}
	b.namespaces()
	b.mountNamespace()
	return b.steps, errors.Join(b.faults...)
}

type builder struct {
	spec   *specs.Spec
	linux  *specs.Linux
	facts  Facts
	steps  []Step
	faults []error
}

func (b *builder) add(s Step) { b.steps = append(b.steps, s) }

func (b *builder) fault(format string, args ...any) {
	b.faults = append(b.faults, errs.New(errs.Invalid, format, args...))
}

// makes says whether a namespace of this type is to be a new one.
func (b *builder) makes(t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(b.linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t && n.Path == "" })
}

// own says whether the container has another namespace of this type than the host's.
func (b *builder) own(t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(b.linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
}

func (b *builder) namespaces() {
	if b.makes(specs.NetworkNamespace) {
		b.add(Step{Op: OpLoopback})
	}
	for _, n := range []struct {
		op    Op
		value string
	}{{OpHostname, b.spec.Hostname}, {OpDomainname, b.spec.Domainname}} {
		if n.value == "" {
			continue
		}
		if !b.own(specs.UTSNamespace) {
			b.fault("%s: the container shares the host's uts namespace, so it cannot have its own", n.op)
			continue
		}
		b.add(Step{Op: n.op, Value: n.value})
	}
}

func (b *builder) mountNamespace() {
	borrowed := !b.makes(specs.MountNamespace)
	if !borrowed {
		b.propagation()
	}
	b.add(Step{Op: OpRoot, Source: b.facts.Rootfs, Chroot: borrowed})
	for i, m := range b.spec.Mounts {
		if err := b.mount(m); err != nil {
			b.faults = append(b.faults, fmt.Errorf("mounts[%d] (%s): %w", i, m.Destination, err))
		}
	}
	if !b.devBound() {
		b.devices()
	}
	if p := b.spec.Process; p != nil && p.Terminal {
		b.add(Step{Op: OpConsole, Target: "/dev/console"})
	}
	b.sysctls()
	b.add(Step{Op: OpHooks})
	for _, p := range b.linux.ReadonlyPaths {
		b.add(Step{Op: OpReadonly, Target: p})
	}
	for _, p := range b.linux.MaskedPaths {
		b.add(Step{Op: OpMask, Target: p})
	}
	if b.spec.Root != nil && b.spec.Root.Readonly {
		b.add(Step{Op: OpReadonlyTop})
	}
	b.add(Step{Op: OpPivot, Flags: b.rootPropagation(0), Chroot: borrowed})
}

var propagations = map[string]uint64{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

func (b *builder) propagation() {
	flags := b.rootPropagation(unix.MS_SLAVE | unix.MS_REC)
	if flags&unix.MS_UNBINDABLE != 0 {
		flags = unix.MS_PRIVATE | unix.MS_REC // what is unbindable now could not become the root; Pivot sets it
	}
	b.add(Step{Op: OpPropagation, Source: b.facts.Rootfs, Flags: flags | unix.MS_REC})
}

func (b *builder) rootPropagation(fallback uint64) uint64 {
	name := b.linux.RootfsPropagation
	if name == "" {
		return fallback
	}
	flags, ok := propagations[name]
	if !ok {
		b.fault("linux.rootfsPropagation: %q is none of private, slave, shared, unbindable", name)
	}
	return flags
}

// devBound says whether /dev is the host's, whose nodes are not ours to make.
func (b *builder) devBound() bool {
	return slices.ContainsFunc(b.spec.Mounts, func(m specs.Mount) bool {
		return path.Clean(m.Destination) == "/dev" && isBind(m)
	})
}

func (b *builder) devices() {
	all := defaultDevices[:]
	for _, d := range b.linux.Devices {
		all = slices.DeleteFunc(slices.Clone(all), func(have specs.LinuxDevice) bool { return have.Path == d.Path })
		all = append(all, d)
	}
	bind := b.own(specs.UserNamespace)
	for _, d := range all {
		if !path.IsAbs(d.Path) {
			b.fault("linux.devices: path %q is not absolute", d.Path)
			continue
		}
		if !slices.Contains([]string{"c", "u", "b", "p"}, d.Type) {
			b.fault("linux.devices: %s: type %q is none of c, b, u, p", d.Path, d.Type)
			continue
		}
		node := Device{Type: d.Type, Major: d.Major, Minor: d.Minor, Mode: 0o666, Bind: bind}
		if d.FileMode != nil {
			node.Mode = uint32(d.FileMode.Perm())
		}
		if d.UID != nil {
			node.UID = *d.UID
		}
		if d.GID != nil {
			node.GID = *d.GID
		}
		b.add(Step{Op: OpDevice, Target: path.Clean(d.Path), Device: node})
	}
	for _, l := range defaultLinks {
		b.add(Step{Op: OpSymlink, Source: l[0], Target: l[1]})
	}
}

// namespaced says in which namespace a sysctl lives; empty when it is the whole machine's.
func namespaced(key string) specs.LinuxNamespaceType {
	switch {
	case strings.HasPrefix(key, "net."):
		return specs.NetworkNamespace
	case strings.HasPrefix(key, "fs.mqueue."), strings.HasPrefix(key, "kernel.shm"),
		key == "kernel.msgmax", key == "kernel.msgmnb", key == "kernel.msgmni", key == "kernel.sem":
		return specs.IPCNamespace
	case key == "kernel.domainname", key == "kernel.hostname":
		return specs.UTSNamespace
	}
	return ""
}

func (b *builder) sysctls() {
	keys := make([]string, 0, len(b.linux.Sysctl))
	for k := range b.linux.Sysctl {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		// Both separators are in use, as in sysctl(8): the first one decides.
		file := strings.ReplaceAll(k, ".", "/")
		dotted := k
		if i := strings.IndexAny(k, "./"); i >= 0 && k[i] == '/' {
			file, dotted = k, strings.NewReplacer("/", ".", ".", "/").Replace(k)
		}
		ns := namespaced(dotted)
		if ns == "" || strings.ContainsAny(k, "\x00\n+ ") || slices.Contains(strings.Split(file, "/"), "..") || slices.Contains(strings.Split(file, "/"), "") {
			b.fault("linux.sysctl: %q is not a namespaced sysctl", k)
			continue
		}
		if strings.ContainsAny(b.linux.Sysctl[k], "\x00\n") {
			b.fault("linux.sysctl: the value of %q holds more than one line", k)
			continue
		}
		if !b.own(ns) {
			b.fault("linux.sysctl: %q would change the host: the container shares its %s namespace", k, ns)
			continue
		}
		b.add(Step{Op: OpSysctl, Target: file, Value: b.linux.Sysctl[k]})
	}
}
