// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// StepMount is one mount of a RUN, beside what every container has.
type StepMount struct {
	Source   string // host path, a folder or file that nothing in a container can exchange; "" is a tmpfs
	Target   string // absolute in the container
	ReadOnly bool
	Size     int64 // of a tmpfs, bytes; 0 is the kernel's default
}

// runMounts are the --mount options of one RUN: first what they say, for the cache, then what is mounted.
type runMounts struct {
	r       *stageRun
	wants   []mountWant
	list    []StepMount
	env     []string // that secrets and agents add
	release []func()
	agents  int
}

// mountWant is one option, read and resolved.
type mountWant struct {
	*instructions.Mount
	from   *Base // nil: the context, or nothing
	target string
	tree   *tree   // of a bind, or of what a cache starts with
	src    *source // in tree
}

// readMounts reads a RUN's options and answers what of them its result depends on.
func (r *stageRun) readMounts(ctx context.Context, c *instructions.RunCommand, s Step) (*runMounts, []string, error) {
	ms := &runMounts{r: r}
	var key []string
	for i, m := range instructions.GetMounts(c) {
		w := mountWant{Mount: m}
		if i < len(s.Mounts) {
			w.from = s.Mounts[i]
		}
		part, err := ms.read(ctx, &w)
		if err != nil {
			ms.close()
			return nil, nil, fmt.Errorf("RUN --mount=type=%s: %w", m.Type, err)
		}
		ms.wants, key = append(ms.wants, w), append(key, part)
	}
	return ms, key, nil
}

// read finds a mount's target, opens what it is from, and answers its part of the cache key.
func (ms *runMounts) read(ctx context.Context, w *mountWant) (string, error) {
	if w.Target != "" {
		if w.target = ms.r.path(w.Target); w.target == "/" {
			return "", errs.New(errs.Invalid, "the target cannot be /")
		}
	}
	key := fmt.Sprintf("%s %q %q %q %v", w.Type, w.target, w.CacheID, w.Source, w.ReadOnly)
	switch w.Type {
	case instructions.MountTypeSecret, instructions.MountTypeSSH:
		return key, nil // what they hold is no part of the result
	case instructions.MountTypeTmpfs:
		return fmt.Sprint(key, w.SizeLimit), needTarget(w)
	case instructions.MountTypeCache:
		if w.from == nil {
			return key, needTarget(w)
		}
	}
	content, err := ms.open(ctx, w)
	if err == nil {
		err = needTarget(w)
	}
	return key + content, err
}

func needTarget(w *mountWant) error {
	if w.target == "" {
		return errs.New(errs.Invalid, "a target is missing: target=/path")
	}
	return nil
}

// open finds a mount's source in the context, a stage or an image, and answers what identifies its content.
func (ms *runMounts) open(ctx context.Context, w *mountWant) (string, error) {
	e := ms.r.e
	if w.from != nil && w.from.Scratch {
		return "scratch", nil
	}
	var err error
	if w.tree, err = e.copySource(ctx, w.from); err != nil {
		return "", err
	}
	if w.from != nil {
		ms.release = append(ms.release, w.tree.close)
	}
	name := strings.TrimPrefix(path.Clean("/"+w.Source), "/")
	src, ok, err := w.tree.collect(name)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", w.tree.notFound(w.Source)
	}
	w.src = &src
	if w.from != nil && name == "" { // the whole of an image: its layers say it
		img, err := e.base(ctx, *w.from, "")
		return fmt.Sprint(img.Layers), err
	}
	return w.tree.digestOf([]source{src})
}

// initFiles adds the mount points, so that they are in the layer that is never committed.
func (ms *runMounts) initFiles(f *image.InitFiles) {
	for _, m := range ms.list {
		fi, err := os.Stat(m.Source)
		if m.Source == "" || err == nil && fi.IsDir() {
			f.Dirs = append(f.Dirs, m.Target)
		} else {
			f.Files = append(f.Files, m.Target)
		}
	}
}

// prepare makes all mounts ready. close must be called also after an error.
func (ms *runMounts) prepare(ctx context.Context) error {
	if err := ms.caches(ctx); err != nil {
		return fmt.Errorf("RUN --mount=type=cache: %w", err)
	}
	for i := range ms.wants {
		w := &ms.wants[i]
		var err error
		switch w.Type {
		case instructions.MountTypeBind:
			err = ms.bind(ctx, w)
		case instructions.MountTypeTmpfs:
			ms.add(w, "")
		case instructions.MountTypeSecret:
			err = ms.secret(w)
		case instructions.MountTypeSSH:
			err = ms.agent(w)
		}
		if err != nil {
			return fmt.Errorf("RUN --mount=type=%s: %w", w.Type, err)
		}
	}
	return nil
}

func (ms *runMounts) add(w *mountWant, source string) {
	ms.list = append(ms.list, StepMount{Source: source, Target: w.target, ReadOnly: w.ReadOnly, Size: w.SizeLimit})
}

func (ms *runMounts) close() {
	for i := len(ms.release) - 1; i >= 0; i-- {
		ms.release[i]()
	}
	ms.release = nil
}

// bind mounts a part of the context, a stage or an image. What is written to it with rw is thrown away.
func (ms *runMounts) bind(ctx context.Context, w *mountWant) error {
	if w.tree == nil { // scratch
		dir, err := os.MkdirTemp(ms.r.e.work, "empty-")
		ms.add(w, dir)
		return err
	}
	var at string
	var err error
	if w.src.skipped || !w.src.isDir() && !w.ReadOnly {
		at, err = ms.copyOf(w)
	} else {
		at, err = ms.pin(w)
	}
	if err != nil {
		return err
	}
	if !w.ReadOnly && w.src.isDir() && !w.src.skipped {
		if at, err = ms.overlay(at); err != nil {
			return err
		}
	}
	ms.add(w, at)
	return nil
}

// pin mounts the file or folder that the source is now on a place of our own: a path into a tree could be made to lead
// elsewhere before the container's start follows it.
func (ms *runMounts) pin(w *mountWant) (string, error) {
	f, err := w.tree.root.Open(w.src.name, unix.O_PATH, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	at, err := ms.place(w.src.isDir())
	if err != nil {
		return "", err
	}
	fd, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return "", fmt.Errorf("clone the mount of %s: %w", w.src.name, err)
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", fmt.Errorf("mount %s: %w", w.src.name, err)
	}
	return at, nil
}

// place makes a mount point that goes with the step.
func (ms *runMounts) place(dir bool) (string, error) {
	e := ms.r.e
	at, err := e.mountPoint()
	if err != nil {
		return "", err
	}
	if !dir {
		if err := errors.Join(os.Remove(at), atomicEmpty(at)); err != nil {
			return "", err
		}
	}
	ms.release = append(ms.release, func() {
		if err := e.b.cfg.Images.Unmount(at); err != nil {
			e.b.cfg.Log.Warn("build: cannot unmount", "dir", at, "err", err)
			return
		}
		os.Remove(at)
	})
	return at, nil
}

func atomicEmpty(name string) error {
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// copyOf makes a copy of a source that .dockerignore takes something out of, or of a single file that may be written to.
func (ms *runMounts) copyOf(w *mountWant) (string, error) {
	dir, err := os.MkdirTemp(ms.r.e.work, "copy-")
	if err != nil {
		return "", err
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if w.src.isDir() {
		return dir, w.tree.copyInto(root, []source{*w.src}, "/", true, ownership{})
	}
	return filepath.Join(dir, "file"), w.tree.copyInto(root, []source{*w.src}, "/file", false, ownership{})
}

// overlay lets a step write over a folder without changing it.
func (ms *runMounts) overlay(lower string) (string, error) {
	e := ms.r.e
	upper, err := os.MkdirTemp(e.work, "over-")
	if err != nil {
		return "", err
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(upper, d), 0o755); err != nil {
			return "", err
		}
	}
	at, err := ms.place(true)
	if err != nil {
		return "", err
	}
	return at, e.b.cfg.Images.MountOver(lower, filepath.Join(upper, "upper"), filepath.Join(upper, "work"), at)
}
