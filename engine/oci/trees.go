// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openTrees opens, for init, what only the parent can: inside a user namespace the container's root may not walk to a source on
// the host, and nobody there may map the ids of a mount. The steps then name the descriptor, which init inherits.
func openTrees(steps []Step, userNS bool) (trees []*os.File, err error) {
	for i := range steps {
		s := &steps[i]
		source, recursive := s.Source, s.Recursive
		switch {
		case s.IDMap != nil:
		case !userNS:
			continue
		case s.Op == OpRoot:
			recursive = true
		case s.Op == OpBind:
		case s.Op == OpDevice && s.Device.Bind:
			source = s.Target
		default:
			continue
		}
		fd, err := openTree(source, recursive)
		if err != nil {
			return trees, fmt.Errorf("%s: %w", s, err)
		}
		trees = append(trees, os.NewFile(uintptr(fd), source))
		s.Tree = len(trees)
		if err := prepareTree(fd, s); err != nil {
			return trees, fmt.Errorf("%s: %w", s, err)
		}
	}
	return trees, nil
}

// prepareTree takes the clone out of its source's peer group, as init's copy of the mount namespace is, and maps its ids.
func prepareTree(fd int, s *Step) error {
	attr := unix.MountAttr{Propagation: unix.MS_SLAVE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("set propagation: %w", err)
	}
	if s.IDMap == nil {
		return nil
	}
	user, err := userNamespace(s.IDMap.UIDs, s.IDMap.GIDs)
	if err != nil {
		return err
	}
	defer user.Close()
	flags := uint(unix.AT_EMPTY_PATH)
	if s.IDMap.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr = unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())}
	if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
		return fmt.Errorf("map the ids of the mount (its file system may not know how): %w", err)
	}
	s.IDMap = nil // done
	return nil
}

// mountsOn counts the mounts on dir itself.
func mountsOn(dir string) int {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return -1
	}
	n := 0
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && unescape(f[4]) == dir {
			n++
		}
	}
	return n
}

// unmountRoot takes off dir what a create that failed put there over the mounts that were there before.
func unmountRoot(dir string, before int) {
	if before >= 0 && mountsOn(dir) > before {
		_ = unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
}
