// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/inroot"
)

// SetUpError is what kept one volume from being set up.
type SetUpError struct {
	Volume string
	Err    error
}

func (e *SetUpError) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

func (e *SetUpError) Unwrap() error { return e.Err }

// SetUp sets all volumes of a pod up, or brings them up to date, and answers where they are by name. All are tried; the
// error joins a SetUpError for each that failed. again is the earliest of the plugins' wishes.
func SetUp(ctx context.Context, pod *corev1.Pod, podDir string, src Sources) (paths map[string]Result, again time.Time, err error) {
	paths = map[string]Result{}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		r, err := setUp(ctx, Request{Volume: v, Pod: pod, Sources: src}, podDir)
		if err != nil {
			errs = append(errs, &SetUpError{v.Name, err})
			continue
		}
		paths[v.Name] = r
		if !r.Again.IsZero() && (again.IsZero() || r.Again.Before(again)) {
			again = r.Again
		}
	}
	return paths, again, errors.Join(errs...)
}

func setUp(ctx context.Context, r Request, podDir string) (Result, error) {
	p := All[slices.IndexFunc(All, func(p Plugin) bool { return p.Handles(r.Volume) })]
	if !filepath.IsLocal(r.Volume.Name) || filepath.Base(r.Volume.Name) != r.Volume.Name {
		return Result{}, fmt.Errorf("volume name %q is not a file name", r.Volume.Name)
	}
	r.Dir = folder(podDir, p, r.Volume.Name)
	if err := os.MkdirAll(filepath.Dir(r.Dir), 0o750); err != nil {
		return Result{}, err
	}
	return p.SetUp(ctx, r)
}

// TearDown removes everything SetUp and BindSubPath made below podDir. What is not there is no error.
func TearDown(podDir string) error {
	if err := unmountBelow(podDir); err != nil {
		return err
	}
	root, err := inroot.Open(podDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range []string{"volume-subpaths", "volumes"} {
		if err := root.RemoveAllAt(name); err != nil {
			return fmt.Errorf("remove volumes in %s: %w", podDir, err)
		}
	}
	return nil
}

// Any says whether there is something for TearDown to do.
func Any(podDir string) bool {
	for _, name := range []string{"volume-subpaths", "volumes"} {
		if _, err := os.Lstat(filepath.Join(podDir, name)); err == nil {
			return true
		}
	}
	return false
}

// Unmount takes down what SetUp and BindSubPath mounted below dir, a pod's folder or that of all pods, and leaves the files:
// for a node that is stopped with its pods. The next SetUp mounts again.
func Unmount(dir string) error { return unmountBelow(dir) }

// unmountBelow unmounts what is mounted below dir, the deepest and latest first.
func unmountBelow(dir string) error {
	dir, err := filepath.EvalSymlinks(dir) // mountinfo has real paths
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for range 64 { // stacked mounts show one by one to those who unmount by path
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil {
			return fmt.Errorf("list mounts below %s: %w", dir, err)
		}
		if len(mounts) == 0 {
			return nil
		}
		for _, m := range slices.Backward(mounts) {
			err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return &fs.PathError{Op: "unmount", Path: m.Mountpoint, Err: err}
			}
		}
	}
	return fmt.Errorf("unmount below %s: still mounts after 64 rounds", dir)
}
