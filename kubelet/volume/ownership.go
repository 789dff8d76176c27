// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ownDir gives a folder to a group: it may enter and read, and what is made in it belongs to the group too.
func ownDir(fd int, gid *int64) error {
	if gid == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := unix.Fchown(fd, -1, int(*gid)); err != nil {
		return err
	}
	return unix.Fchmod(fd, st.Mode&0o7777|unix.S_ISGID|0o550)
}

// shareDir makes dir exist with mode, and with the group as a writer if there is one.
func shareDir(dir string, mode os.FileMode, gid *int64) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	bits := uint32(mode.Perm())
	if gid != nil {
		if err := unix.Fchown(fd, -1, int(*gid)); err != nil {
			return fmt.Errorf("give %s to group %d: %w", dir, *gid, err)
		}
		bits |= unix.S_ISGID | 0o770
	}
	return unix.Fchmod(fd, bits)
}

// shareReadable opens a folder to be read by everybody who gets at it, and gives it to the group.
func shareReadable(dir string, gid *int64) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, 0o755); err != nil {
		return err
	}
	return ownDir(fd, gid)
}
