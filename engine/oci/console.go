// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// openConsole makes a pair from the container's own devpts, so that /dev/pts/0 is the terminal's name inside too. The slave
// is taken from the master by ioctl and never by a name, which the image could have replaced (CVE-2025-52565).
func (a *applier) openConsole(s Step) error {
	ptmx, err := a.root.open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY)
	if err != nil {
		return err
	}
	defer unix.Close(ptmx)
	slave, err := a.pair(ptmx)
	if err != nil {
		return err
	}
	if s.Target == "" {
		return nil
	}
	target, err := a.root.target(s.Target, false)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	m, err := unix.OpenTree(unix.AT_FDCWD, fdPath(slave), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(m)
	return attach(m, target, Step{})
}

// pair unlocks the pair behind an opened ptmx, hands the master to whoever asked for the terminal and keeps the slave.
func (a *applier) pair(ptmx int) (int, error) {
	if !onFS(ptmx, unix.DEVPTS_SUPER_MAGIC) {
		return -1, errs.New(errs.Denied, "/dev/pts/ptmx is not on devpts; mount devpts on /dev/pts for a terminal")
	}
	if err := unix.IoctlSetPointerInt(ptmx, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlock terminal: %w", err)
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ptmx), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, fmt.Errorf("open terminal: %w", errno)
	}
	a.slave = int(slave)
	return a.slave, a.console(ptmx)
}

// takeTerminal makes the slave the standard streams and the controlling terminal of this session.
func takeTerminal(slave int, size *specs.Box) error {
	for fd := range 3 {
		if err := unix.Dup3(slave, fd, 0); err != nil {
			return err
		}
	}
	if size != nil {
		ws := &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		if err := unix.IoctlSetWinsize(0, unix.TIOCSWINSZ, ws); err != nil {
			return fmt.Errorf("size terminal: %w", err)
		}
	}
	if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("take terminal: %w", err)
	}
	return nil
}

// ownStreams gives pipes and the terminal to the user who will have them, so that /dev/stdout can be opened by its name too. Anything
// else that a stream may be is the caller's own, and a device must never change hands.
func ownStreams(uid int) {
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || st.Uid == uint32(uid) {
			continue
		}
		pipe := st.Mode&unix.S_IFMT == unix.S_IFIFO || st.Mode&unix.S_IFMT == unix.S_IFSOCK
		if pipe || onFS(fd, unix.DEVPTS_SUPER_MAGIC) {
			_ = unix.Fchown(fd, uid, -1) // a pipe of somebody whom the user namespace does not know stays his
		}
	}
}
