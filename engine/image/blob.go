// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// Bounds of the documents of an image; real ones have a few kilobytes.
const (
	maxConfigSize   = 4 << 20
	maxManifestSize = 4 << 20
	maxLayers       = 400 // overlayfs stops at 500
)

// blobRef says which blob holds a layer's tar, as it came.
type blobRef struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
}

func (s *Store) blobPath(d digest.Digest) string { return s.path(blobsDir, d.Encoded()) }

// checkDigest refuses what is no well-formed sha256 digest: digests become file names.
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return errs.New(errs.Invalid, "%.100q is not a sha256 digest", string(d))
	}
	return nil
}

// putBlob stores a small document under its digest. One that need not be durable yet is checked whenever it is read.
func (s *Store) putBlob(data []byte, durable bool) (digest.Digest, error) {
	d := digest.FromBytes(data)
	if durable {
		return d, atomicfile.Write(s.blobPath(d), data, 0o600) // also over one that was not
	}
	if _, err := s.readBlob(d, int64(len(data))); err == nil {
		return d, nil
	}
	return d, atomicfile.WriteVolatile(s.blobPath(d), data, 0o600)
}

// readBlob reads a small document and checks it.
func (s *Store) readBlob(d digest.Digest, limit int64) ([]byte, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	defer f.Close()
	data, err := readBounded(f, limit)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	if digest.FromBytes(data) != d {
		return nil, fmt.Errorf("blob %s: the file on disk has other content", d)
	}
	return data, nil
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, errs.New(errs.TooLarge, "document is larger than %d bytes", limit)
	}
	return data, err
}

func (s *Store) hasBlob(d digest.Digest) bool {
	_, err := os.Lstat(s.blobPath(d))
	return err == nil
}

// adoptBlob moves a complete file, whose content the caller has verified, into the blobs.
func (s *Store) adoptBlob(file string, d digest.Digest) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	err = f.Sync()
	f.Close()
	if err != nil {
		return err
	}
	if err := os.Rename(file, s.blobPath(d)); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.path(blobsDir))
}

// newBlob streams a blob whose digest is known only at the end.
type newBlob struct {
	s      *Store
	f      *os.File
	digest digest.Digester
	size   int64
}

func (s *Store) newBlob() (*newBlob, error) {
	f, err := os.CreateTemp(s.path(partialDir), "blob-*")
	if err != nil {
		return nil, err
	}
	return &newBlob{s: s, f: f, digest: digest.SHA256.Digester()}, nil
}

func (b *newBlob) Write(p []byte) (int, error) {
	n, err := b.f.Write(p)
	b.digest.Hash().Write(p[:n])
	b.size += int64(n)
	return n, err
}

func (b *newBlob) commit() (digest.Digest, error) {
	d := b.digest.Digest()
	if err := b.f.Close(); err != nil {
		return "", err
	}
	return d, b.s.adoptBlob(b.f.Name(), d)
}

// abort drops the file; after commit it does nothing.
func (b *newBlob) abort() {
	b.f.Close()
	if err := os.Remove(b.f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.s.log.Warn("image store: cannot remove a partial blob", "err", err)
	}
}

// ctxReader makes a long copy end with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// blobSize is 0 for a blob that is not there.
func (s *Store) blobSize(d digest.Digest) int64 {
	fi, err := os.Lstat(s.blobPath(d))
	if err != nil {
		return 0
	}
	return fi.Size()
}
