// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// A volume with a size is a file with a file system of its own: what is written beyond its end is refused by the kernel
// (ENOSPC), whoever writes. Its blocks are taken from the machine only as they are filled.

const (
	diskFile = "disk.ext4"
	minSize  = 4 << 20 // bytes; below it there is no room for a journal
)

// makeDisk makes the file. The file system is made by e2fsprogs: the only program besides our own that the engine calls, for
// this option alone.
func makeDisk(path string, size int64) error {
	mkfs, err := findMkfs()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	cmd := exec.Command(mkfs, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,root_owner=0:0", "/proc/self/fd/3")
	cmd.ExtraFiles, cmd.Env = []*os.File{f}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, bytes.TrimSpace(out))
	}
	return f.Sync()
}

func findMkfs() (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, "mkfs.ext4")
		if fi, err := os.Stat(path); err == nil && fi.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errs.New(errs.Unsupported, "option size needs the program mkfs.ext4, which this machine has not (package e2fsprogs)")
}

// mountDisk mounts the file by a loop device that goes with the mount.
func mountDisk(path, at string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	loop, err := loopDevice(f)
	if err != nil {
		return fmt.Errorf("loop device for %s: %w", path, err)
	}
	defer loop.Close() // the mount holds it from now on
	if err := unix.Mount(loop.Name(), at, "ext4", unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	// A volume is empty when it is new: the image's content is copied into an empty one only.
	if err := os.Remove(filepath.Join(at, "lost+found")); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// maxLoopTries bounds the race for a free device with others on the machine.
const maxLoopTries = 100

func loopDevice(f *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	cfg := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], f.Name())
	for range maxLoopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		path := "/dev/loop" + strconv.Itoa(n)
		if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
		loop, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &cfg)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
	}
	return nil, errs.New(errs.Unavailable, "no loop device is free")
}
