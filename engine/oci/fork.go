// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A user or a time namespace is entered by processes of one thread only, and every Go program has several: so the child that enters one
// does it between fork and exec, with raw system calls and without allocating, like syscall.ForkExec, which has no such step.
//
//	parent              child                            second child
//	  │ clone ────────────▶│ setns or unshare(user)
//	  │◀────────────── 'm' │                              (only with a new user namespace)
//	  │ uid_map, gid_map ─▶│ becomes root of it
//	  │                    │ the other setns                    (for root on the host: before all this)
//	  │◀────────────── 't' │                              (only with a new time namespace of an ordinary user)
//	  │ timens_offsets ───▶│
//	  │                    │ clone(new namespaces, CLONE_PARENT) ──▶│ (only with a new pid namespace; else unshare)
//	  │◀────────── 'p' pid │ ends                                   │ descriptors, execve
//	  │◀──────────────────────────────── 'e' stage, errno, or the end of file that is success
type lateFork struct {
	b         birth
	exe       int
	report    [2]int // pipe: child to parent
	goOn      [2]int // pipe: parent to child
	fds       []int
	argv, env []*byte
	path      *byte
}

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// The stages a child can fail in.
var forkStages = [...]string{"join a user namespace", "make a user namespace", "wait for the runtime", "become root of the user namespace",
	"join a namespace", "make namespaces", "set up descriptors", "execute"}

const (
	stageJoinUser = iota
	stageNewUser
	stageMap
	stageRoot
	stageJoin
	stageClone
	stageFiles
	stageExec
)

// highFD is above every descriptor that a fork puts in place from 0 on.
const highFD = 512

// forkLate is fork for a child that has to enter a user or time namespace. The calling thread has joined all else that it could.
func (b birth) forkLate(exe int) (pid int, err error) {
	f := lateFork{b: b, exe: exe}
	defer f.close()
	if err := f.prepare(); err != nil {
		return 0, err
	}
	if b.groupFD >= 0 {
		pid, err = f.cloneInto()
	} else {
		pid, err = f.clone()
	}
	if err != nil {
		return 0, fmt.Errorf("clone: %w", err)
	}
	unix.Close(f.report[1])
	unix.Close(f.goOn[0])
	f.report[1], f.goOn[0] = -1, -1
	final, err := f.follow(pid)
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return 0, err
	}
	if final != pid {
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
	return final, nil
}

func (f *lateFork) close() {
	for _, fd := range append(f.fds, f.report[0], f.report[1], f.goOn[0], f.goOn[1]) {
		if fd > 0 {
			unix.Close(fd)
		}
	}
}

// prepare makes everything the child needs, as it cannot allocate.
func (f *lateFork) prepare() error {
	for _, p := range []*[2]int{&f.report, &f.goOn} {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		for i, fd := range ends {
			moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, highFD)
			unix.Close(fd)
			if err != nil {
				return err
			}
			p[i] = moved
		}
	}
	for _, file := range f.b.files {
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, highFD)
		if err != nil {
			return err
		}
		f.fds = append(f.fds, fd)
	}
	var err error
	if f.path, err = unix.BytePtrFromString("/proc/self/fd/" + strconv.Itoa(f.exe)); err != nil {
		return err
	}
	if f.argv, err = syscall.SlicePtrFromStrings(f.b.args); err != nil {
		return err
	}
	f.env, err = syscall.SlicePtrFromStrings(initEnv())
	return err
}

func (f *lateFork) clone() (int, error) {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	beforeFork()
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		f.child()
	}
	afterFork()
	if errno != 0 {
		return 0, errno
	}
	return int(pid), nil
}

// cloneArgs is struct clone_args (clone(2)) up to cgroup.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// cloneInto forks into the v2 group.
func (f *lateFork) cloneInto() (int, error) {
	args := &cloneArgs{flags: unix.CLONE_INTO_CGROUP, exitSignal: uint64(unix.SIGCHLD), cgroup: uint64(f.b.groupFD)}
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	beforeFork()
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno == 0 && pid == 0 {
		f.child()
	}
	afterFork()
	if errno != 0 {
		return 0, errno
	}
	return int(pid), nil
}

// child never returns. It runs in a copy of the parent's memory in which nothing else runs.
//
//go:norace
//go:nosplit
func (f *lateFork) child() {
	afterForkInChild()
	b := &f.b
	again := false
	if b.mighty {
		again = f.joinAll()
	}
	if b.userFD >= 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETNS, uintptr(b.userFD), unix.CLONE_NEWUSER, 0); errno != 0 {
			f.fail(stageJoinUser, errno)
		}
	}
	if b.flags&unix.CLONE_NEWUSER != 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0); errno != 0 {
			f.fail(stageNewUser, errno)
		}
		f.ask('m')
	}
	if b.userFD >= 0 || b.flags&unix.CLONE_NEWUSER != 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0) // the namespace may forbid it
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0); errno != 0 {
			f.fail(stageRoot, errno)
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
			f.fail(stageRoot, errno)
		}
	}
	if !b.mighty {
		again = f.joinAll()
		if b.newTime {
			if _, _, errno := unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWTIME, 0, 0); errno != 0 {
				f.fail(stageClone, errno)
			}
			f.ask('t')
		}
	}
	flags := b.flags &^ unix.CLONE_NEWUSER
	if flags&unix.CLONE_NEWPID == 0 && !again {
		if _, _, errno := unix.RawSyscall(unix.SYS_UNSHARE, flags, 0, 0); errno != 0 {
			f.fail(stageClone, errno)
		}
	} else {
		// The exit signal is the parent's own with CLONE_PARENT, and none may be named.
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags|unix.CLONE_PARENT, 0, 0, 0, 0, 0)
		if errno != 0 {
			f.fail(stageClone, errno)
		}
		if pid != 0 {
			f.say('p', uint32(pid), 0)
			for {
				_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
		}
	}
	for i := range f.fds {
		if _, _, errno := unix.RawSyscall(unix.SYS_DUP3, uintptr(f.fds[i]), uintptr(i), 0); errno != 0 {
			f.fail(stageFiles, errno)
		}
	}
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(f.path)), uintptr(unsafe.Pointer(&f.argv[0])), uintptr(unsafe.Pointer(&f.env[0])))
	f.fail(stageExec, errno)
}

// joinAll enters the namespaces left to the child; again: another fork is needed to be in the pid namespace itself.
//
//go:norace
//go:nosplit
func (f *lateFork) joinAll() (again bool) {
	for i := range f.b.late {
		m := &f.b.late[i]
		if _, _, errno := unix.RawSyscall(unix.SYS_SETNS, uintptr(m.fd), uintptr(m.kind), 0); errno != 0 {
			f.fail(stageJoin, errno)
		}
		again = again || m.kind&unix.CLONE_NEWPID != 0
	}
	return again
}

// ask has the parent do something and waits for it.
//
//go:norace
//go:nosplit
func (f *lateFork) ask(what byte) {
	f.say(what, 0, 0)
	var word [1]byte
	if n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(f.goOn[0]), uintptr(unsafe.Pointer(&word[0])), 1); n != 1 {
		f.fail(stageMap, errno)
	}
}

//go:norace
//go:nosplit
func (f *lateFork) say(kind byte, a, b uint32) {
	word := [9]byte{kind, byte(a), byte(a >> 8), byte(a >> 16), byte(a >> 24), byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(f.report[1]), uintptr(unsafe.Pointer(&word[0])), 9)
}

//go:norace
//go:nosplit
func (f *lateFork) fail(stage uint32, errno syscall.Errno) {
	f.say('e', stage, uint32(errno))
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 253, 0, 0)
	}
}

// follow is the parent's part. The pid it gives is the one that executes.
func (f *lateFork) follow(pid int) (int, error) {
	final := pid
	for {
		var word [9]byte
		n, err := readFull(f.report[0], word[:])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return final, nil
		}
		a, b := binary.LittleEndian.Uint32(word[1:]), binary.LittleEndian.Uint32(word[5:])
		switch word[0] {
		case 'm', 't':
			if word[0] == 'm' {
				err = writeMaps(pid, f.b.uids, f.b.gids)
			} else {
				err = f.b.setTimeOffsets(pid)
			}
			if err != nil {
				return 0, err
			}
			if _, err := unix.Write(f.goOn[1], []byte{1}); err != nil {
				return 0, err
			}
		case 'p':
			final = int(a)
		default:
			if final != pid {
				_, _ = unix.Wait4(final, nil, 0, nil)
			}
			return 0, fmt.Errorf("%s: %w", forkStages[a], syscall.Errno(b))
		}
	}
}

// readFull reads len(p) bytes, or none at the end of file.
func readFull(fd int, p []byte) (int, error) {
	got := 0
	for got < len(p) {
		n, err := unix.Read(fd, p[got:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return got, err
		}
		if n == 0 {
			if got > 0 {
				return got, io.ErrUnexpectedEOF
			}
			return 0, nil
		}
		got += n
	}
	return got, nil
}

// writeMaps gives the new user namespace of pid its ids. Who may not write them himself asks newuidmap(1) and newgidmap(1), which
// know what /etc/subuid and /etc/subgid grant.
func writeMaps(pid int, uids, gids []syscall.SysProcIDMap) error {
	dir := "/proc/" + strconv.Itoa(pid)
	if err := writeProc(dir+"/uid_map", mapText(uids)); err != nil {
		if !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("map user ids: %w", err)
		}
		if err := mapBy("newuidmap", pid, uids); err != nil {
			return err
		}
	}
	err := writeProc(dir+"/gid_map", mapText(gids))
	if errors.Is(err, unix.EPERM) && len(gids) == 1 && gids[0].Size == 1 {
		// One's own group alone may be mapped by anybody, at the price of setgroups(2) (user_namespaces(7)).
		if err = writeProc(dir+"/setgroups", "deny"); err == nil {
			err = writeProc(dir+"/gid_map", mapText(gids))
		}
	}
	if errors.Is(err, unix.EPERM) {
		return mapBy("newgidmap", pid, gids)
	}
	if err != nil {
		return fmt.Errorf("map group ids: %w", err)
	}
	return nil
}

func mapBy(program string, pid int, list []syscall.SysProcIDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, m := range list {
		args = append(args, strconv.Itoa(m.ContainerID), strconv.Itoa(m.HostID), strconv.Itoa(m.Size))
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("map ids by %s, as the kernel does not let this user: %w: %s", program, err, out)
	}
	return nil
}

func mapText(list []syscall.SysProcIDMap) string {
	text := ""
	for _, m := range list {
		text += fmt.Sprintf("%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return text
}

// userNamespace makes a user namespace of these maps that nobody is in and opens it, for mount_setattr(MOUNT_ATTR_IDMAP).
func userNamespace(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	var goOn [2]int
	if err := unix.Pipe2(goOn[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(goOn[0])
	syscall.ForkLock.Lock()
	beforeFork()
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		waitForEnd(goOn)
	}
	afterFork()
	syscall.ForkLock.Unlock()
	if errno != 0 {
		unix.Close(goOn[1])
		return nil, fmt.Errorf("make a user namespace: %w", errno)
	}
	defer func() {
		unix.Close(goOn[1])
		_, _ = unix.Wait4(int(pid), nil, 0, nil)
	}()
	if err := writeMaps(int(pid), idMap(uids), idMap(gids)); err != nil {
		return nil, err
	}
	return os.Open("/proc/" + strconv.Itoa(int(pid)) + "/ns/user")
}

// waitForEnd keeps a child until the parent closes the pipe.
//
//go:norace
//go:nosplit
func waitForEnd(pipe [2]int) {
	afterForkInChild()
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(pipe[1]), 0, 0)
	var word [1]byte
	_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(pipe[0]), uintptr(unsafe.Pointer(&word[0])), 1)
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
