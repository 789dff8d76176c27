// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/knarr/knarr/internal/errs"
	"golang.org/x/sys/unix"
)

// applier does steps in init. It runs on one locked thread.
type applier struct {
	root    root
	empty   int // an empty read-only tmpfs to hide directories with; -1 until needed
	null    int // the host's /dev/null, checked; -1 until needed
	console func(master int) error
	slave   int // the terminal, once OpConsole has made it; else -1
	hooks   func() error
	borrow  bool // the mount namespace is not this container's alone
	trees   int  // the first of the descriptors that Step.Tree counts
}

func (a *applier) apply(steps []Step) error {
	for _, s := range steps {
		if err := a.step(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// close drops what the steps held, so that no cwd can be set through it.
func (a *applier) close() {
	for _, fd := range []int{a.root.fd, a.empty, a.null} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// String says what the step does, for errors: "mount proc on /proc".
func (s Step) String() string {
	switch s.Op {
	case OpMount:
		return fmt.Sprintf("mount %s on %s", s.FSType, s.Target)
	case OpBind:
		return fmt.Sprintf("bind %s to %s", s.Source, s.Target)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s", s.Op, s.Target))
}

func (a *applier) step(s Step) error {
	switch s.Op {
	case OpLoopback:
		return raiseLoopback()
	case OpHostname:
		return unix.Sethostname([]byte(s.Value))
	case OpDomainname:
		return unix.Setdomainname([]byte(s.Value))
	case OpPropagation:
		return setPropagation(s)
	case OpRoot:
		return a.openRoot(s)
	case OpMount:
		return a.mount(s)
	case OpBind:
		return a.bind(s)
	case OpMkdir:
		fd, err := a.root.mkdirAll(s.Target)
		if err == nil {
			unix.Close(fd)
		}
		return err
	case OpDevice:
		return a.device(s)
	case OpSymlink:
		return a.symlink(s)
	case OpConsole:
		return a.openConsole(s)
	case OpMask:
		return a.mask(s)
	case OpReadonly:
		return a.readonly(s)
	case OpSysctl:
		return writeSysctl(s.Target, s.Value)
	case OpHooks:
		return a.hooks()
	case OpReadonlyTop:
		return unix.MountSetattr(a.root.fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	case OpPivot:
		return a.pivot(s)
	}
	return errs.New(errs.Unsupported, "unknown step %q", s.Op)
}

func setPropagation(s Step) error {
	if err := unix.Mount("", "/", "", uintptr(s.Flags), ""); err != nil {
		return err
	}
	if s.Flags&unix.MS_SHARED == 0 {
		return nil
	}
	// pivot_root refuses a root whose parent mount is shared, so that one mount stops being so.
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	return unix.Mount("", mountOf(string(table), s.Source), "", unix.MS_PRIVATE, "")
}

// mountOf finds the mount point that path lies on in the text of a mountinfo file.
func mountOf(table, p string) string {
	best := "/"
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		point := unescape(f[4])
		if (p == point || strings.HasPrefix(p, strings.TrimSuffix(point, "/")+"/")) && len(point) >= len(best) {
			best = point
		}
	}
	return best
}

// unescape undoes the kernel's octal escapes in mount tables.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// openRoot clones the mount of the root file system with all below it and puts the clone on top: a mount of our own,
// as pivot_root wants, whose descriptor is the root for every later step.
func (a *applier) openRoot(s Step) error {
	fd, place := a.trees+s.Tree-1, "/" // by its path the container's root may not reach it; the place does not matter, as nothing is looked up through it
	if s.Tree == 0 {
		var err error
		fd, err = unix.OpenTree(unix.AT_FDCWD, s.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("open_tree %s: %w", s.Source, err)
		}
		place = s.Source
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount %s: %w", place, err)
	}
	a.root.fd, a.borrow = fd, s.Chroot
	return nil
}

// attach sets the mount's flags while nobody can see it and then puts it on the place that target is.
func attach(mount, target int, s Step) error {
	if s.Attr != (Attr{}) {
		err := setAttr(mount, s.Attr, 0)
		if err != nil {
			return err
		}
	}
	if s.RecAttr != (Attr{}) {
		if err := setAttr(mount, s.RecAttr, unix.AT_RECURSIVE); err != nil {
			return err
		}
	}
	if err := unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	for _, p := range s.Propagation {
		flags := uint(unix.AT_EMPTY_PATH)
		if p&unix.MS_REC != 0 {
			flags |= unix.AT_RECURSIVE
		}
		if err := unix.MountSetattr(mount, "", flags, &unix.MountAttr{Propagation: p &^ unix.MS_REC}); err != nil {
			return fmt.Errorf("set propagation: %w", err)
		}
	}
	return nil
}

func setAttr(mount int, a Attr, flags uint) error {
	attr := unix.MountAttr{Attr_set: a.Set, Attr_clr: a.Clear}
	if err := unix.MountSetattr(mount, "", flags|unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

func (a *applier) mount(s Step) error {
	m, err := makeMount(s)
	if s.Fallback && errors.Is(err, unix.EPERM) {
		// The pid or network namespace is not this user namespace's, so that only what the host has mounted already may be shown.
		return a.bind(Step{Op: OpBind, Source: map[string]string{"proc": "/proc", "sysfs": "/sys"}[s.FSType], Target: s.Target, Recursive: true, RecAttr: s.Attr})
	}
	if err != nil {
		return err
	}
	defer unix.Close(m)
	if s.FSType == "proc" || s.FSType == "sysfs" {
		// A symlink here would put the real one elsewhere and leave the masked paths pointing at nothing.
		if err := a.plainDir(s.Target); err != nil {
			return err
		}
	}
	target, err := a.root.target(s.Target, true)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if s.CopyUp {
		if err := copyUp(target, m); err != nil {
			return fmt.Errorf("copy up: %w", err)
		}
	}
	return attach(m, target, s)
}

// plainDir refuses a path of which any part is a symlink.
func (a *applier) plainDir(p string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(a.root.fd, p, &how)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return errs.New(errs.Invalid, "%s in the root file system must be a directory and no symlink: %w", p, err)
	}
	return unix.Close(fd)
}

// makeMount makes a detached mount of a new file system.
func makeMount(s Step) (int, error) {
	fsfd, err := unix.Fsopen(s.FSType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		if errors.Is(err, unix.ENODEV) {
			return -1, errs.New(errs.Unsupported, "this kernel has no file system %q", s.FSType)
		}
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fsfd)
	source := s.Source
	if source == "" {
		source = s.FSType
	}
	if err := unix.FsconfigSetString(fsfd, "source", source); err != nil {
		return -1, fsError(fsfd, "source="+source, err)
	}
	for _, o := range s.Options {
		k, v, hasValue := strings.Cut(o, "=")
		if hasValue {
			err = unix.FsconfigSetString(fsfd, k, v)
		} else {
			err = unix.FsconfigSetFlag(fsfd, k)
		}
		if err != nil {
			return -1, fsError(fsfd, o, err)
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return -1, fsError(fsfd, "create", err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fsError(fsfd, "mount", err)
	}
	return fd, nil
}

// fsError adds what the kernel says about it, if anything: "e mqueue: Unknown parameter 'x'".
func fsError(fsfd int, what string, err error) error {
	buf := make([]byte, 512)
	if n, e := unix.Read(fsfd, buf); e == nil && n > 2 {
		return fmt.Errorf("%s: %w: %s", what, err, strings.TrimSpace(string(buf[2:n])))
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (a *applier) bind(s Step) error {
	m, err := a.trees+s.Tree-1, error(nil)
	if s.Tree == 0 {
		m, err = openTree(s.Source, s.Recursive)
	}
	if err != nil {
		return err
	}
	defer unix.Close(m)
	dir, err := isDir(m)
	if err != nil {
		return err
	}
	target, err := a.root.target(s.Target, dir)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if tdir, err := isDir(target); err == nil && tdir != dir {
		if dir {
			return errs.New(errs.Invalid, "%s is a directory, but %s in the container is not", s.Source, s.Target)
		}
		return errs.New(errs.Invalid, "%s is no directory, but %s in the container is one", s.Source, s.Target)
	}
	return attach(m, target, s)
}

// openTree clones the mount at path, and those below it if recursive; the clone is nowhere in the file tree yet.
func openTree(path string, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	m, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return m, nil
}

func (a *applier) device(s Step) error {
	if s.Device.Bind {
		return a.bind(Step{Op: OpBind, Source: s.Target, Target: s.Target, Tree: s.Tree})
	}
	parent, name, err := a.root.parent(s.Target)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	d := s.Device
	kind := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
	dev := int(unix.Mkdev(uint32(d.Major), uint32(d.Minor)))
	err = unix.Mknodat(parent, name, kind|d.Mode, dev)
	if err != nil && err != unix.EEXIST {
		return err
	}
	// What is there already may be anything, so it is opened, never followed, and compared.
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind || (kind != unix.S_IFIFO && st.Rdev != uint64(dev)) {
		return errs.New(errs.Conflict, "the image holds something else there")
	}
	if err := unix.Fchownat(fd, "", int(d.UID), int(d.GID), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Chmod(fdPath(fd), d.Mode) // mknod's mode lost the umask; fd is checked, so this path is
}

func (a *applier) symlink(s Step) error {
	parent, name, err := a.root.parent(s.Target)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	err = unix.Symlinkat(s.Source, parent, name)
	if err != unix.EEXIST {
		return err
	}
	if s.Target != "/dev/ptmx" {
		return nil
	}
	// A node made by the image would be the host's devpts, not the container's.
	if err := unix.Unlinkat(parent, name, 0); err != nil {
		return err
	}
	return unix.Symlinkat(s.Source, parent, name)
}

// mask hides a file behind /dev/null and a directory behind an empty read-only tmpfs, both the host's own.
func (a *applier) mask(s Step) error {
	target, err := a.root.open(s.Target, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	dir, err := isDir(target)
	if err != nil {
		return err
	}
	if dir && a.borrow {
		m, err := emptyDir()
		if err != nil {
			return err
		}
		defer unix.Close(m)
		return attach(m, target, s)
	}
	cover, err := a.cover(dir)
	if err != nil {
		return err
	}
	m, err := unix.OpenTree(cover, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(m)
	return attach(m, target, s)
}

// emptyDir makes an empty read-only directory.
func emptyDir() (int, error) {
	return makeMount(Step{FSType: "tmpfs", Options: []string{"ro", "size=0", "nr_inodes=2", "mode=755"}})
}

// cover opens what masks: made once, cloned for each path.
func (a *applier) cover(dir bool) (int, error) {
	if dir {
		if a.empty < 0 {
			m, err := emptyDir()
			if err != nil {
				return -1, err
			}
			// open_tree clones only what is mounted somewhere, so the cover lies on the old tree, at a place no later step needs; the pivot drops it.
			if err := unix.MoveMount(m, "", unix.AT_FDCWD, "/sys", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
				return -1, fmt.Errorf("move_mount: %w", err)
			}
			a.empty = m
		}
		return a.empty, nil
	}
	if a.null < 0 {
		fd, err := unix.Open("/dev/null", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return -1, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
			return -1, errs.New(errs.Denied, "the host's /dev/null is not the null device")
		}
		a.null = fd
	}
	return a.null, nil
}

func (a *applier) readonly(s Step) error {
	target, err := a.root.open(s.Target, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if s.Flags&unix.MS_REMOUNT != 0 {
		return setAttr(target, Attr{Set: unix.MOUNT_ATTR_RDONLY}, 0)
	}
	m, err := unix.OpenTree(target, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(m)
	s.Attr = Attr{Set: unix.MOUNT_ATTR_RDONLY}
	return attach(m, target, s)
}

// writeSysctl writes through the host's /proc, which shows a process the values of its own namespaces, and makes sure that it is procfs.
func writeSysctl(key, value string) error {
	name := path.Join("/proc/sys", key)
	how := unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &how)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if !onFS(fd, unix.PROC_SUPER_MAGIC) {
		return errs.New(errs.Denied, "%s is not on procfs", name)
	}
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

func (a *applier) pivot(s Step) error {
	if err := unix.Fchdir(a.root.fd); err != nil {
		return err
	}
	if s.Chroot {
		if err := unix.Chroot("."); err != nil {
			return fmt.Errorf("chroot: %w", err)
		}
		return unix.Chdir("/")
	}
	// Stacking the old root on the new one and taking it off again needs no directory in the image (pivot_root(2), "." twice).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	// What is unmounted here must not vanish from the host as well.
	if err := unix.Mount("", ".", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if s.Flags != 0 {
		return unix.Mount("", "/", "", uintptr(s.Flags), "")
	}
	return nil
}

// raiseLoopback sets IFF_UP on lo (netdevice(7)).
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return err
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
