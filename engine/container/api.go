// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// Top lists the container's processes. args are ps options: "", "-ef", "aux", "-o pid,comm,…".
func (e *Engine) Top(ctx context.Context, ref string, args string) (titles []string, rows [][]string, err error) {
	return nil, nil, errSoon
}

// PathStat describes a path in a container.
type PathStat struct {
	Name       string
	Size       int64
	Mode       fs.FileMode
	Mtime      time.Time
	LinkTarget string
}

// StatPath stats a path inside the container's root, where symbolic links cannot lead out of.
func (e *Engine) StatPath(ctx context.Context, ref, path string) (PathStat, error) {
	return PathStat{}, errSoon
}

// CopyFrom writes a tar of path, whose one top entry is path's last element.
func (e *Engine) CopyFrom(ctx context.Context, ref, path string, w io.Writer) error { return errSoon }

// CopyToOptions of CopyTo.
type CopyToOptions struct {
	NoOverwriteDirNonDir bool // a folder does not replace a file, nor a file a folder
	CopyUIDGID           bool // keep the tar's owners instead of root
}

// CopyTo unpacks a tar, plain, gzip or zstd, into the existing folder at path.
func (e *Engine) CopyTo(ctx context.Context, ref, path string, r io.Reader, o CopyToOptions) error {
	return errSoon
}

// Export writes a tar of the container's whole root file system, without what is mounted into it.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error { return errSoon }

// Connect puts a container on a further network, at its next start if it does not run.
func (e *Engine) Connect(ctx context.Context, ref, network string, n NetworkSpec) error {
	return errSoon
}

// Disconnect takes a container off a network.
func (e *Engine) Disconnect(ctx context.Context, ref, network string) error { return errSoon }
