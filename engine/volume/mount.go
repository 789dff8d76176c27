// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// checkOptions holds the local driver's rules: type, device and o are mount(8)'s and say what to mount on the volume's folder
// while somebody uses it; size bounds what the volume can hold.
func checkOptions(opts map[string]string) error {
	for name := range opts {
		if !slices.Contains([]string{"type", "device", "o", "size"}, name) {
			return errs.New(errs.Invalid, "invalid option: %q; the local driver knows type, device, o and size", name)
		}
	}
	for name, needs := range map[string][]string{"type": {"device"}, "device": {"type"}, "o": {"type", "device"}} {
		for _, other := range needs {
			if opts[name] != "" && opts[other] == "" {
				return errs.New(errs.Invalid, "missing required option: %q (because of %q)", other, name)
			}
		}
	}
	if flags, _ := mountOptions(opts["o"]); flags&unix.MS_BIND != 0 && !filepath.IsAbs(opts["device"]) {
		return errs.New(errs.Invalid, "option device=%s: the folder of a bind mount is given by an absolute path", opts["device"])
	}
	if opts["size"] == "" {
		return nil
	}
	if opts["type"] != "" {
		return errs.New(errs.Unsupported, "option size: what is mounted from elsewhere cannot be limited here; a tmpfs takes its size in o=size=…")
	}
	size, err := units.RAMInBytes(opts["size"])
	if err != nil || size < minSize {
		return errs.New(errs.Invalid, "option size=%s: want a number of bytes, at least %s, like 1g", opts["size"], units.BytesSize(minSize))
	}
	return nil
}

// mountOptions splits fstab's words into mount(2)'s flags and what is the file system's own.
func mountOptions(words string) (flags uintptr, data string) {
	known := map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS,
		"dirsync": unix.MS_DIRSYNC, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
		"strictatime": unix.MS_STRICTATIME, "bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC,
	}
	var rest []string
	for w := range strings.SplitSeq(words, ",") {
		switch f, ok := known[w]; {
		case ok:
			flags |= f
		case w == "" || w == "rw" || w == "defaults":
		default:
			rest = append(rest, w)
		}
	}
	return flags, strings.Join(rest, ",")
}

// Mount mounts what a volume is made of on its folder, for as long as one of its users runs (a container's id). A volume
// without options is a plain folder, for which there is nothing to do. Saying it again changes nothing.
func (v *Volumes) Mount(ctx context.Context, name, user string) error {
	vol, err := v.Get(name)
	if err != nil || len(vol.Options) == 0 {
		return err
	}
	v.mounting.Lock()
	defer v.mounting.Unlock()
	if err := v.mount(ctx, &vol); err != nil {
		return fmt.Errorf("mount volume %s: %w", name, err)
	}
	if v.mounted[name] == nil {
		v.mounted[name] = map[string]bool{}
	}
	v.mounted[name][user] = true
	return nil
}

func (v *Volumes) mount(ctx context.Context, vol *Volume) error {
	at := v.path(vol.Name)
	if there, err := mountinfo.Mounted(at); err != nil || there {
		return err
	}
	if vol.Options["size"] != "" {
		return mountDisk(filepath.Join(v.dir, vol.Name, diskFile), at)
	}
	device, kind := vol.Options["device"], vol.Options["type"]
	flags, data := mountOptions(vol.Options["o"])
	if strings.HasPrefix(kind, "nfs") || kind == "cifs" {
		var err error
		if data, err = resolveServer(ctx, data); err != nil {
			return err
		}
	}
	if flags&unix.MS_BIND != 0 {
		kind, data = "", ""
	}
	if err := unix.Mount(device, at, kind, flags, data); err != nil {
		return errs.New(errs.Invalid, "%s of type %q with options %q: %w", device, vol.Options["type"], vol.Options["o"], err)
	}
	if flags&unix.MS_BIND != 0 && flags&unix.MS_RDONLY != 0 { // the kernel takes the flags of a bind mount in a second step
		return unix.Mount("", at, "", flags|unix.MS_REMOUNT, "")
	}
	return nil
}

// resolveServer puts an address in place of a server's name: the kernel asks no name server.
func resolveServer(ctx context.Context, data string) (string, error) {
	words := strings.Split(data, ",")
	for i, w := range words {
		host, ok := strings.CutPrefix(w, "addr=")
		if !ok || net.ParseIP(host) != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
		if err != nil {
			return "", err
		}
		words[i] = "addr=" + ips[0].String()
	}
	return strings.Join(words, ","), nil
}

// Unmount takes back what Mount said; the last user's takes the mount away. Unknown volume or user is no error.
func (v *Volumes) Unmount(name, user string) error {
	v.mounting.Lock()
	defer v.mounting.Unlock()
	if !v.mounted[name][user] {
		return nil
	}
	delete(v.mounted[name], user)
	if len(v.mounted[name]) > 0 {
		return nil
	}
	delete(v.mounted, name)
	return v.unmount(name)
}

// unmount takes everything off a volume's folder: before it is removed, nothing may be on it that is somebody else's.
func (v *Volumes) unmount(name string) error {
	for {
		err := unix.Unmount(v.path(name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // no mount point
			return nil
		}
		if err != nil {
			return fmt.Errorf("unmount volume %s: %w", name, err)
		}
	}
}

// Teardown unmounts all volumes. It is part of what `knarr stop-all` ends with; nobody uses one any more.
func (v *Volumes) Teardown() error {
	v.mounting.Lock()
	defer v.mounting.Unlock()
	var all []error
	for _, vol := range v.List() {
		all = append(all, v.unmount(vol.Name))
	}
	clear(v.mounted)
	return errors.Join(all...)
}

// Sub opens a folder or file below a volume's folder, which must be mounted, as a path without links: what a container may
// have put there leads nowhere else (CVE-2021-25741, CVE-2024-21626's kin).
func (v *Volumes) Sub(name, path string) (*os.File, error) {
	at, err := v.Path(name)
	if err != nil {
		return nil, err
	}
	dir, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", name, err)
	}
	defer unix.Close(dir)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(dir, path, how)
	if err != nil {
		return nil, errs.New(errs.Invalid, "cannot access path %s of volume %s: %w", path, name, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
