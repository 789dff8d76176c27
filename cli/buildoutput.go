// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/moby/moby/client"
)

// buildOutput is where a result goes beside the daemon's store.
type buildOutput struct{ kind, dest string }

// parseOutput reads --output as buildx does: a folder, "-", or fields.
func parseOutput(text string) (buildOutput, error) {
	switch {
	case text == "":
		return buildOutput{}, nil
	case text == "-":
		return buildOutput{kind: "tar", dest: "-"}, nil
	case !strings.Contains(text, "="):
		return buildOutput{kind: "local", dest: text}, nil
	}
	var o buildOutput
	for _, field := range strings.Split(text, ",") {
		switch k, v, _ := strings.Cut(field, "="); k {
		case "type":
			o.kind = v
		case "dest":
			o.dest = v
		default:
			return o, fmt.Errorf("--output %s: unknown field %s; want type=local|tar|docker|oci,dest=PATH", text, k)
		}
	}
	switch o.kind {
	case "image":
		return buildOutput{}, nil
	case "docker", "oci", "tar":
		o.dest = cmp.Or(o.dest, "-")
	case "local":
		if o.dest == "" {
			return o, fmt.Errorf("--output %s: want dest=FOLDER", text)
		}
	default:
		return o, fmt.Errorf("--output %s: type is local, tar, docker, oci or image", text)
	}
	return o, nil
}

// writeOutput fetches the result and writes it.
func (e *env) writeOutput(ctx context.Context, c *client.Client, o buildOutput, id string, tags []string) error {
	switch o.kind {
	case "":
		return nil
	case "docker", "oci": // an archive of images is both at once
		names := tags
		if len(names) == 0 {
			names = []string{id}
		}
		r, err := c.ImageSave(ctx, names)
		if err != nil {
			return err
		}
		defer r.Close()
		return e.writeTar(o.dest, r)
	}
	r, err := rootfs(ctx, c, id)
	if err != nil {
		return err
	}
	defer r.Close()
	if o.kind == "tar" {
		return e.writeTar(o.dest, r)
	}
	return unpackInto(o.dest, r)
}

func (e *env) writeTar(dest string, r io.Reader) error {
	if dest == "-" {
		dest = ""
	}
	out, closeOut, err := e.outputFile(dest, "build --output")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, closeOut())
}

// rootfs is the file system of an image as a tar: a route that only knarr's daemon has.
func rootfs(ctx context.Context, c *client.Client, id string) (io.ReadCloser, error) {
	dial := c.Dialer()
	tr := &http.Transport{DialContext: dialVia(dial), DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://knarr/images/"+url.PathEscape(id)+"/rootfs", nil)
	if err != nil {
		return nil, err
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return nil, fmt.Errorf("fetch the result: %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	return res.Body, nil
}

// unpackInto writes a tar below a folder; no name or link in it leads out.
func unpackInto(dest string, r io.Reader) error {
	if err := os.MkdirAll(dest, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dest)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the result broke off: %w", err)
		}
		name := path.Clean(h.Name)
		if name == "." {
			continue
		}
		if h.Typeflag == tar.TypeLink {
			root.Remove(name)
			err = root.Link(path.Clean(h.Linkname), name)
		} else {
			err = extract(root, name, h, t)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write %s: %w", h.Name, err)
		}
		if h.Typeflag == tar.TypeReg {
			if err := errors.Join(root.Chmod(name, fs.FileMode(h.Mode).Perm()), root.Chtimes(name, h.ModTime, h.ModTime)); err != nil {
				return err
			}
		}
	}
}

// dialVia makes a client's own connection one for any request.
func dialVia(dial func(context.Context) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
}
