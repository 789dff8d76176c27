// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// beneath: no step may lead out of the volume, by "..", by an absolute link or by /proc.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS

// BindSubPath finds subPath in the volume at volumePath, makes it a folder if it is missing, and binds it to a place of
// its own below podDir, which it answers. What was found is what is bound: both happen on one descriptor.
func BindSubPath(podDir, volumePath, volumeName, subPath, container string, index int) (string, error) {
	if subPath == "" || !filepath.IsLocal(subPath) {
		return "", errs.New(errs.Invalid, "subPath %q is not a path below the volume", subPath)
	}
	root, err := unix.Open(volumePath, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: volumePath, Err: err}
	}
	defer unix.Close(root)
	fd, err := openBeneath(root, filepath.Clean(subPath))
	if err != nil {
		return "", fmt.Errorf("subPath %q of volume %q: %w", subPath, volumeName, err)
	}
	defer unix.Close(fd)
	target := filepath.Join(podDir, "volume-subpaths", volumeName, container, strconv.Itoa(index))
	return target, bindFd(fd, target)
}

// openBeneath opens path, making folders of what is missing.
func openBeneath(root int, path string) (int, error) {
	fd, err := openat2(root, path)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	cur, err := openat2(root, ".")
	if err != nil {
		return -1, err
	}
	done := ""
	for _, elem := range strings.Split(path, "/") {
		err := unix.Mkdirat(cur, elem, 0o750)
		if err == nil {
			err = copyMode(root, cur, elem)
		} else if errors.Is(err, unix.EEXIST) {
			err = nil
		}
		unix.Close(cur)
		if err != nil {
			return -1, err
		}
		done = filepath.Join(done, elem)
		if cur, err = openat2(root, done); err != nil {
			return -1, err
		}
	}
	return cur, nil
}

// copyMode gives a new folder the bits and owners of the volume, so that who may write there may write here.
func copyMode(root, parent int, elem string) error {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return err
	}
	fd, err := unix.Openat(parent, elem, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(fd, st.Mode&0o7777)
}

func openat2(root int, path string) (int, error) {
	for {
		fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: beneath})
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR): // a rename elsewhere raced with ".."
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP):
			return -1, errs.New(errs.Denied, "a link leads out of the volume: %w", err)
		}
		return fd, err
	}
}

// bindFd mounts what fd is on target, which is made to fit; a mount that is there already is replaced.
func bindFd(fd int, target string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err == nil {
		_ = os.Remove(target) // it may be of the other type now; if it cannot go, the mount below says why
	}
	if err := makeTarget(target, st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return err
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("clone the mount of a subPath: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind a subPath to %s: %w", target, err)
	}
	return nil
}

func makeTarget(target string, dir bool) error {
	if dir {
		return os.MkdirAll(target, 0o750)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}
