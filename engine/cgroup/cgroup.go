// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/knarr/knarr/internal/errs"
	"golang.org/x/sys/unix"
)

// Cgroup is one path in all hierarchies of a layout. Its methods may be called concurrently.
type Cgroup struct {
	layout Layout
	path   string
}

// Open names the group at path, which is absolute as the hierarchies see it, without touching it.
func (l Layout) Open(p string) (*Cgroup, error) {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || strings.ContainsAny(p, "\x00\n") {
		return nil, errs.New(errs.Invalid, "cgroup path %q must be absolute, clean and not the root", p)
	}
	return &Cgroup{layout: l, path: p}, nil
}

// Create makes the group and its missing ancestors in every hierarchy; one that is there already is used as it is.
func (l Layout) Create(p string) (*Cgroup, error) {
	c, err := l.Open(p)
	if err != nil {
		return nil, err
	}
	for _, root := range l.v1Roots() {
		if err := makeV1(root, p, root == l.V1["cpuset"]); err != nil {
			return nil, fmt.Errorf("create cgroup %s: %w", p, err)
		}
	}
	if l.Unified != "" {
		if err := l.makeV2(p); err != nil {
			return nil, fmt.Errorf("create cgroup %s: %w", p, err)
		}
	}
	return c, nil
}

// Path is the group's path below the hierarchies' roots.
func (c *Cgroup) Path() string { return c.path }

// makeV1 tries the whole path first: a container's parent is there already in all but the first case. A new cpuset is empty
// and admits nobody until it has cpus and mems, which it takes from its parent.
func makeV1(root, p string, cpuset bool) error {
	dir := root + p
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if parent := path.Dir(p); parent != "/" {
			if err := makeV1(root, parent, cpuset); err != nil {
				return err
			}
		}
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if !cpuset {
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(path.Join(dir, name))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(have)) != "" {
			continue
		}
		parent, err := os.ReadFile(path.Join(path.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := write(path.Join(dir, name), strings.TrimSpace(string(parent))); err != nil {
			return err
		}
	}
	return nil
}

// makeV2 makes the path and hands every available controller down to its last parent.
func (l Layout) makeV2(p string) error {
	dir := l.Unified
	for _, name := range strings.Split(p[1:], "/") {
		if err := l.enable(dir); err != nil {
			return err
		}
		dir = path.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// enable gives the children of dir all controllers that dir itself has and children lack.
func (l Layout) enable(dir string) error {
	if len(l.Controllers) == 0 {
		return nil
	}
	have, err := os.ReadFile(path.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	given := strings.Fields(string(have))
	for _, ctl := range l.Controllers {
		if slices.Contains(given, ctl) {
			continue
		}
		if err := write(path.Join(dir, "cgroup.subtree_control"), "+"+ctl); errors.Is(err, unix.EBUSY) {
			return errs.New(errs.Conflict, "cgroup %s holds processes itself and cannot hand controllers to its children: %w", dir, err)
		} else if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}

// file is where a controller's file of this group is; ok is false when the machine does not have the controller.
func (c *Cgroup) file(controller, name string) (string, bool) {
	if root := c.layout.V1[controller]; root != "" {
		return root + c.path + "/" + name, true
	}
	if slices.Contains(c.layout.Controllers, controller) {
		return c.unified(name), true
	}
	return "", false
}

func (c *Cgroup) unified(name string) string { return c.layout.Unified + c.path + "/" + name }

// v1 says whether the controller is driven by v1 files here.
func (c *Cgroup) v1(controller string) bool { return c.layout.V1[controller] != "" }

// JoinThread moves the calling thread, which must be locked, into the group in all v1 hierarchies; what it forks
// afterwards is born there. The thread should end after that.
func (c *Cgroup) JoinThread() error {
	for _, root := range c.layout.v1Roots() {
		// "0" in tasks is the calling thread, and the one case for which the kernel takes no global lock.
		if err := write(root+c.path+"/tasks", "0"); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// OnThread runs f on a thread of its own that ends afterwards, for f to join groups and namespaces and fork. It is never the
// process's first thread: that one cannot end and would stay where f took it.
func OnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			OnThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// UnifiedFD opens the group's directory in the v2 tree, for clone's CLONE_INTO_CGROUP; -1 when there is no v2 tree.
func (c *Cgroup) UnifiedFD() (int, error) {
	if c.layout.Unified == "" {
		return -1, nil
	}
	fd, err := unix.Open(c.unified(""), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open cgroup %s: %w", c.path, err)
	}
	return fd, nil
}

// Add moves a running process with all its threads into the group. It is slow (see the package's doc); prefer being
// born inside.
func (c *Cgroup) Add(pid int) error {
	for _, dir := range c.dirs() {
		if err := write(dir+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("add %d to cgroup: %w", pid, err)
		}
	}
	return nil
}

// dirs are the group's directories in all hierarchies, v2 last.
func (c *Cgroup) dirs() []string {
	var dirs []string
	for _, root := range c.layout.v1Roots() {
		dirs = append(dirs, root+c.path)
	}
	if c.layout.Unified != "" {
		dirs = append(dirs, c.layout.Unified+c.path)
	}
	return dirs
}

// Exists says whether the group is there in the hierarchy that lists processes.
func (c *Cgroup) Exists() bool {
	_, err := os.Stat(c.procsDir())
	return err == nil
}

// procsDir is the directory whose cgroup.procs is asked for members: any hierarchy would do, as a container is in all.
func (c *Cgroup) procsDir() string {
	if c.layout.Unified != "" {
		return c.layout.Unified + c.path
	}
	if root := c.layout.V1["freezer"]; root != "" {
		return root + c.path
	}
	return c.layout.v1Roots()[0] + c.path
}

// Procs lists the processes of the group and of the groups below it.
func (c *Cgroup) Procs() ([]int, error) {
	var pids []int
	err := eachDir(c.procsDir(), func(dir string) error {
		text, err := os.ReadFile(dir + "/cgroup.procs")
		if err != nil {
			return err
		}
		for _, f := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return pids, err
}

// eachDir visits dir and the groups below it, children first, so that visit may remove what it is given.
func eachDir(dir string, visit func(dir string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := eachDir(path.Join(dir, e.Name()), visit); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return visit(dir)
}

// write writes a control file, which must be there; a wrong name never creates a file in a tmpfs that lies below.
func write(file, value string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(value))
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", value, file, err)
	}
	return nil
}
