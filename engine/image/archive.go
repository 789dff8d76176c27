// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
)

// Bounds of an image archive.
const (
	maxArchiveFiles = 100_000
	maxArchiveBytes = 256 << 30
)

// archive is an image tar taken apart: manifest.json may come last, so every file is put aside first. Names in the tar are
// only keys of a table; on disk the files have numbers.
type archive struct {
	dir   string
	files map[string]stagedFile
	links map[string]string // symbolic and hard links, as old docker-archives share layers
}

type stagedFile struct {
	path   string
	size   int64
	digest digest.Digest
}

func stageArchive(ctx context.Context, dir string, r io.Reader) (*archive, error) {
	plain, _, err := layer.Decompress(ctxReader{ctx, r})
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	a := &archive{dir: dir, files: map[string]stagedFile{}, links: map[string]string{}}
	tr := tar.NewReader(plain)
	var sum int64
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "malformed archive: %w", err)
		}
		if sum += h.Size; n >= maxArchiveFiles || sum > maxArchiveBytes || len(h.Name) > 4096 {
			return nil, errs.New(errs.TooLarge, "archive has more than %d files or %d bytes", maxArchiveFiles, int64(maxArchiveBytes))
		}
		if err := a.stage(h, tr, n); err != nil {
			return nil, fmt.Errorf("archive entry %.200q: %w", h.Name, err)
		}
	}
}

func (a *archive) stage(h *tar.Header, r io.Reader, n int) error {
	name := archiveKey(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		a.links[name] = archiveKey(path.Join(path.Dir(name), h.Linkname))
		return nil
	case tar.TypeLink:
		a.links[name] = archiveKey(h.Linkname)
		return nil
	default:
		return nil
	}
	file := filepath.Join(a.dir, strconv.Itoa(n))
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := digest.SHA256.Digester()
	size, err := io.Copy(io.MultiWriter(f, hash.Hash()), r)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.New(errs.Invalid, "the archive is cut short: %w", err)
	}
	if err != nil {
		return err
	}
	a.files[name] = stagedFile{file, size, hash.Digest()}
	return f.Close()
}

func archiveKey(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// find looks a name up, through at most a few links.
func (a *archive) find(name string) (stagedFile, error) {
	key := archiveKey(name)
	for range 8 {
		if f, ok := a.files[key]; ok {
			return f, nil
		}
		next, ok := a.links[key]
		if !ok {
			break
		}
		key = next
	}
	return stagedFile{}, errs.New(errs.Invalid, "the archive has no file %.200q", name)
}

func (a *archive) has(name string) bool { _, err := a.find(name); return err == nil }

// read reads a document.
func (a *archive) read(name string, limit int64) ([]byte, error) {
	sf, err := a.find(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(sf.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readBounded(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// readDigest reads an OCI layout's blob and checks it.
func (a *archive) readDigest(d digest.Digest, limit int64) ([]byte, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	name := ociBlobPath(d)
	sf, err := a.find(name)
	if err != nil {
		return nil, err
	}
	if sf.digest != d {
		return nil, errs.New(errs.Invalid, "archive file %s has digest %s", name, sf.digest)
	}
	return a.read(name, limit)
}

func ociBlobPath(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded())
}
