// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (e *env) cp() *cobra.Command {
	return &cobra.Command{
		Use: "cp CONTAINER:PATH PATH | cp PATH CONTAINER:PATH", Short: "Copy files between here and a container", Args: exactly("a source", "a destination"),
		Long: "Copy files between here and a container; - as the local side is a tar on stdin or stdout.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			from, fromPath, fromIn := strings.Cut(args[0], ":")
			to, toPath, toIn := strings.Cut(args[1], ":")
			switch {
			case fromIn && !toIn:
				return e.copyOut(cmd.Context(), c, from, fromPath, args[1])
			case toIn && !fromIn:
				return e.copyIn(cmd.Context(), c, args[0], to, toPath)
			}
			return usageError{errors.New("cp wants one side as CONTAINER:PATH and the other as a local path")}
		},
	}
}

// copyOut unpacks what the container sends below dst. The container is not trusted: os.Root keeps every name inside.
func (e *env) copyOut(ctx context.Context, c *client.Client, ref, src, dst string) error {
	got, err := c.CopyFromContainer(ctx, ref, client.CopyFromContainerOptions{SourcePath: src})
	if err != nil {
		return err
	}
	defer got.Content.Close()
	if dst == "-" {
		_, err := io.Copy(e.out, got.Content)
		return err
	}
	dir, rename := filepath.Dir(dst), filepath.Base(dst)
	if st, err := os.Stat(dst); err == nil && st.IsDir() {
		dir, rename = dst, ""
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(got.Content)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the container's archive broke off: %w", err)
		}
		name := path.Clean(h.Name)
		if rename != "" { // the top entry takes the destination's name
			_, rest, _ := strings.Cut(name, "/")
			name = path.Join(rename, rest)
		}
		if err := extract(root, name, h, t); err != nil {
			return fmt.Errorf("copy %s: %w", h.Name, err)
		}
	}
}

func extract(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	mode := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, mode|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case tar.TypeSymlink:
		root.Remove(name)
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.Copy(f, r); err != nil {
			return err
		}
		return f.Close()
	}
	return nil // devices and the like stay in the container
}

// copyIn sends src as a tar whose top entry is named as it shall be there.
func (e *env) copyIn(ctx context.Context, c *client.Client, src, ref, dst string) error {
	if src == "-" {
		_, err := c.CopyToContainer(ctx, ref, client.CopyToContainerOptions{DestinationPath: dst, Content: e.in})
		return err
	}
	if _, err := os.Lstat(src); err != nil {
		return err
	}
	dir, name := path.Dir(dst), path.Base(dst)
	if st, err := c.ContainerStatPath(ctx, ref, client.ContainerStatPathOptions{Path: dst}); err == nil && st.Stat.Mode.IsDir() {
		dir, name = dst, filepath.Base(filepath.Clean(src))
	} else if strings.HasSuffix(dst, "/") {
		return fmt.Errorf("no such folder in the container: %s", dst)
	}
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(src, p)
			if err != nil {
				return err
			}
			return addToTar(t, p, path.Join(name, filepath.ToSlash(rel)), d)
		})
		w.CloseWithError(errors.Join(err, t.Close()))
	}()
	_, err := c.CopyToContainer(ctx, ref, client.CopyToContainerOptions{DestinationPath: dir, Content: r})
	return err
}
