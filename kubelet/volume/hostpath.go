// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// HostPath is a file or folder of the node.
type HostPath struct{}

func (HostPath) Name() string                  { return "kubernetes.io/host-path" }
func (HostPath) Handles(v *corev1.Volume) bool { return v.HostPath != nil }

func (HostPath) SetUp(_ context.Context, r Request) (Result, error) {
	path := r.Volume.HostPath.Path
	kind := corev1.HostPathUnset
	if r.Volume.HostPath.Type != nil {
		kind = *r.Volume.HostPath.Type
	}
	if !filepath.IsAbs(path) {
		return Result{}, fmt.Errorf("hostPath %q is not absolute", path)
	}
	return Result{Path: path}, checkHostPath(path, kind)
}

// checkHostPath makes what the type says may be made, and checks the rest.
func checkHostPath(path string, kind corev1.HostPathType) error {
	switch kind {
	case corev1.HostPathUnset:
		// As container runtimes do: what is missing becomes a folder.
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return os.MkdirAll(path, 0o755)
		}
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		kind = corev1.HostPathDirectory
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		f.Close()
		kind = corev1.HostPathFile
	}
	return checkType(path, kind)
}

func checkType(path string, kind corev1.HostPathType) error {
	st, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	is := func(mode fs.FileMode, want fs.FileMode) bool { return err == nil && st.Mode()&mode == want }
	var ok bool
	var what string
	switch kind {
	case corev1.HostPathDirectory:
		ok, what = is(fs.ModeType, fs.ModeDir), "a directory"
	case corev1.HostPathFile:
		ok, what = is(fs.ModeType, 0), "a file"
	case corev1.HostPathSocket:
		ok, what = is(fs.ModeType, fs.ModeSocket), "a socket file"
	case corev1.HostPathCharDev:
		ok, what = is(fs.ModeType, fs.ModeDevice|fs.ModeCharDevice), "a character device"
	case corev1.HostPathBlockDev:
		ok, what = is(fs.ModeType, fs.ModeDevice), "a block device"
	default:
		return fmt.Errorf("%s is an invalid volume type", kind)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, what)
	}
	return nil
}
