// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// Mount mounts the snapshot's overlay on target, an existing directory. A target that is a mount point already is errs.Exists.
func (s *Store) Mount(key, target string) error {
	rec, err := s.findSnapshot(key)
	if err != nil {
		return err
	}
	snap := s.snapshot(rec)
	err = mountOverlay(overlay{lower: snap.Lower, upper: snap.RW, work: filepath.Join(snap.Dir, "work")}, target)
	if err != nil {
		return fmt.Errorf("mount snapshot %s on %s: %w", key, target, err)
	}
	return nil
}

// MountReadOnly mounts an image's layers on target, read-only.
func (s *Store) MountReadOnly(img Image, target string) error {
	lower := s.fsDirs(chainIDs(img.Layers))
	for i := 1; len(lower) < 2; i++ { // overlayfs wants two, not the same, when there is no upper
		empty := s.path(emptyDir, strconv.Itoa(i))
		if err := os.MkdirAll(empty, 0o755); err != nil {
			return err
		}
		lower = append(lower, empty)
	}
	if err := mountOverlay(overlay{lower: lower}, target); err != nil {
		return fmt.Errorf("mount image %s on %s: %w", short(img.ID), target, err)
	}
	return nil
}

// MountOver mounts an overlay of one lower folder, and what is written over it, on target. All are host folders of the caller.
func (s *Store) MountOver(lower, upper, work, target string) error {
	if err := mountOverlay(overlay{lower: []string{lower}, upper: upper, work: work}, target); err != nil {
		return fmt.Errorf("mount over %s: %w", lower, err)
	}
	return nil
}

// Unmount undoes Mount; a target that is not mounted, or not there, is no error. A busy one is detached at once and goes
// when its last user does.
func (s *Store) Unmount(target string) error {
	err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

// overlay is what is mounted: lower directories top first; without upper it is read-only.
type overlay struct {
	lower       []string
	upper, work string
}

// overlayFlags turn off what would make an upper directory mean something only with the mount it was made by: its content
// becomes layers. redirect_dir=nofollow also keeps a layer from pointing elsewhere.
var overlayFlags = [...][2]string{{"index", "off"}, {"metacopy", "off"}, {"redirect_dir", "nofollow"}}

func mountOverlay(o overlay, target string) error {
	if isMountPoint(target) {
		return errs.New(errs.Exists, "it is a mount point already")
	}
	err := mountByConfig(o, target)
	if errors.Is(err, errOldKernel) {
		return mountByOptions(o, target)
	}
	return err
}

var errOldKernel = errors.New("the kernel has no lowerdir+")

func isMountPoint(target string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, target, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// mountByConfig gives the kernel one lower directory at a time (Linux 6.8), so that no page-sized option string bounds them.
func mountByConfig(o overlay, target string) error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return errOldKernel
	}
	if err != nil {
		return fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fd)
	for i, l := range o.lower {
		err := unix.FsconfigSetString(fd, "lowerdir+", l)
		if i == 0 && errors.Is(err, unix.EINVAL) {
			return errOldKernel
		}
		if err != nil {
			return kernelSays(fd, fmt.Errorf("lower directory %s: %w", l, err))
		}
	}
	opts := overlayFlags[:]
	if o.upper != "" {
		opts = append([][2]string{{"upperdir", o.upper}, {"workdir", o.work}}, opts...)
	}
	for _, kv := range opts {
		if err := unix.FsconfigSetString(fd, kv[0], kv[1]); err != nil {
			return kernelSays(fd, fmt.Errorf("option %s=%s: %w", kv[0], kv[1], err))
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return kernelSays(fd, err)
	}
	attr := 0
	if o.upper == "" {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return kernelSays(fd, err)
	}
	defer unix.Close(m)
	return unix.MoveMount(m, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// kernelSays adds the sentence the kernel left in the file system context, which names the option at fault.
func kernelSays(fd int, err error) error {
	buf := make([]byte, 1024)
	n, rerr := unix.Read(fd, buf)
	if rerr != nil || n <= 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e ")))
}

// mountByOptions is for older kernels: descriptors keep each lower directory at some 20 bytes of the one page there is.
func mountByOptions(o overlay, target string) error {
	var lower []string
	for _, l := range o.lower {
		fd, err := unix.Open(l, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		lower = append(lower, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	opts := "lowerdir=" + strings.Join(lower, ":")
	flags := uintptr(unix.MS_RDONLY)
	if o.upper != "" {
		opts += ",upperdir=" + o.upper + ",workdir=" + o.work
		flags = 0
	}
	if len(opts) >= unix.Getpagesize() {
		return errs.New(errs.Unsupported, "%d layers are too many for this kernel: Linux 6.8 lifts the bound", len(o.lower))
	}
	err := unix.Mount("overlay", target, "overlay", flags, opts+",redirect_dir=off,metacopy=off,index=off")
	if errors.Is(err, unix.EINVAL) { // before Linux 4.19 some of these options do not exist
		err = unix.Mount("overlay", target, "overlay", flags, opts)
	}
	return err
}
