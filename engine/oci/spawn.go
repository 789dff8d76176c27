// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// birth says in which namespaces and group a process is born.
type birth struct {
	args    []string
	files   []*os.File
	flags   uintptr // CLONE_NEW… of the namespaces to make
	timeNS  map[string]specs.LinuxTimeOffset
	newTime bool
	join    []membership
	late    []membership // those joined by the child itself, in the user namespace
	userFD  int          // a user namespace to enter, or a pidfd of one who is in it; -1 for none
	group   *cgroup.Cgroup
	mountFD int  // a mount namespace that init enters; -1 for none
	mighty  bool // the caller is root, with power over every namespace
	groupFD int  // its directory in the v2 tree, or -1
	uids    []syscall.SysProcIDMap
	gids    []syscall.SysProcIDMap
}

// membership is a namespace to be in: its descriptor, or a pidfd of one who is in it, and its CLONE_NEW… flag.
type membership struct{ fd, kind int }

var cloneFlags = map[specs.LinuxNamespaceType]int{
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET, specs.MountNamespace: unix.CLONE_NEWNS,
	specs.IPCNamespace: unix.CLONE_NEWIPC, specs.UTSNamespace: unix.CLONE_NEWUTS, specs.UserNamespace: unix.CLONE_NEWUSER,
	specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
}

// spawn executes this same binary. What a thread joins stays with that thread and what it forks, so a fresh one is used up for it.
func spawn(b birth) (pid int, err error) {
	exe, err := selfReadonly()
	if err != nil {
		return 0, fmt.Errorf("prepare to execute myself: %w", err)
	}
	defer unix.Close(exe)
	cgroup.OnThread(func() {
		pid, err = b.fork(exe)
	})
	return pid, err
}

func (b birth) fork(exe int) (int, error) {
	b.groupFD = -1
	if b.group != nil {
		if err := b.group.JoinThread(); err != nil {
			return 0, err
		}
		fd, err := b.group.UnifiedFD()
		if err != nil {
			return 0, err
		}
		if fd >= 0 {
			defer unix.Close(fd)
			b.groupFD = fd
		}
	}
	b.sortJoins()
	for _, m := range b.join {
		if err := unix.Setns(m.fd, m.kind); err != nil {
			return 0, fmt.Errorf("join namespace: %w", err)
		}
	}
	if b.newTime && b.mighty {
		if err := b.unshareTime(); err != nil {
			return 0, err
		}
	}
	if b.userFD >= 0 || len(b.late) > 0 || b.flags&unix.CLONE_NEWUSER != 0 {
		return b.forkLate(exe)
	}
	fds := make([]uintptr, len(b.files))
	for i, f := range b.files {
		fds[i] = f.Fd()
	}
	attr := &syscall.ProcAttr{Env: initEnv(), Files: fds,
		Sys: &syscall.SysProcAttr{Cloneflags: b.flags, UseCgroupFD: b.groupFD >= 0, CgroupFD: b.groupFD}}
	pid, err := syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(exe), b.args, attr)
	runtime.KeepAlive(b.files)
	if err != nil {
		return 0, fmt.Errorf("clone: %w", err)
	}
	return pid, nil
}

// initEnv: one thread is enough for init, and it lives too shortly for a garbage collection to pay.
func initEnv() []string { return []string{"GOMAXPROCS=1", "GOGC=off"} }

// sortJoins leaves to the child what this thread cannot do. Root joins all namespaces but time himself, and before any user namespace,
// which may have no power over the others; another user gets that power only inside of his user namespace.
func (b *birth) sortJoins() {
	b.mighty = unix.Geteuid() == 0
	all := b.join
	b.join = nil
	for _, m := range all {
		if m.kind == unix.CLONE_NEWTIME || !b.mighty {
			b.late = append(b.late, m)
		} else {
			b.join = append(b.join, m)
		}
	}
}

func (b birth) unshareTime() error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("new time namespace: %w", err)
	}
	return b.setTimeOffsets(unix.Gettid())
}

// setTimeOffsets sets the clocks of the namespace that the children of pid will be in.
func (b birth) setTimeOffsets(pid int) error {
	text := ""
	for clock, o := range b.timeNS {
		text += fmt.Sprintf("%s %d %d\n", clock, o.Secs, o.Nanosecs)
	}
	if text == "" {
		return nil
	}
	return writeProc(fmt.Sprintf("/proc/%d/timens_offsets", pid), text)
}

// selfReadonly opens this binary through a read-only mount of its own that is in no namespace, so that what runs from it
// can be read but never be opened for writing, by nobody, also not as /proc/<pid>/exe (CVE-2019-5736), and no mount_setattr can change that.
// It costs 20 microseconds; a sealed copy in memory would cost the binary's size.
func selfReadonly() (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		var fd int
		if err == nil {
			fd, err = unix.Open("/proc/self/fd/"+strconv.Itoa(tree), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		unix.Close(tree) // takes the mount out of its anonymous namespace; the open file keeps it alive
		if err == nil {
			return high(fd)
		}
	}
	fd, err := selfCopy()
	if err != nil {
		return -1, err
	}
	return high(fd)
}

// high moves fd out of the way of the descriptors that a fork puts in place from 0 on.
func high(fd int) (int, error) {
	defer unix.Close(fd)
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100)
}

// selfCopy is for binaries on file systems that cannot be cloned: a sealed copy in memory.
func selfCopy() (int, error) {
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("knarr-shim", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			unix.Close(fd)
			return -1, err
		}
		data = data[n:]
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openNamespaces opens the namespaces that spec wants joined and sorts the others into clone flags.
func (b *birth) openNamespaces(list []specs.LinuxNamespace) (close func(), newCgroup bool, err error) {
	b.userFD, b.mountFD = -1, -1
	var faults []error
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, n := range list {
		flag, ok := cloneFlags[n.Type]
		switch {
		case !ok:
			faults = append(faults, errs.New(errs.Invalid, "linux.namespaces: unknown type %q", n.Type))
		case seen[n.Type]:
			faults = append(faults, errs.New(errs.Invalid, "linux.namespaces: %s is listed twice", n.Type))
		case n.Path != "":
			fd, err := openNamespace(n.Path, flag)
			if err != nil {
				faults = append(faults, fmt.Errorf("linux.namespaces: %s: %w", n.Type, err))
				break
			}
			switch n.Type {
			case specs.UserNamespace:
				b.userFD = fd
			case specs.MountNamespace:
				b.mountFD = fd
			default:
				b.join = append(b.join, membership{fd, flag})
			}
		case n.Type == specs.CgroupNamespace:
			newCgroup = true // init unshares it, being in its group already
		case n.Type == specs.TimeNamespace:
			b.newTime = true
		default:
			b.flags |= uintptr(flag)
		}
		seen[n.Type] = true
	}
	close = func() {
		for _, m := range b.join {
			unix.Close(m.fd)
		}
		for _, fd := range []int{b.userFD, b.mountFD} {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
	return close, newCgroup, errors.Join(faults...)
}

// openNamespace opens the file and makes sure that it is a namespace of that type.
func openNamespace(name string, flag int) (int, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != flag {
		unix.Close(fd)
		return -1, errs.New(errs.Invalid, "%s is not a namespace of this type", name)
	}
	return fd, nil
}
