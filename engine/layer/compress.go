// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/knarr/knarr/internal/errs"
)

// Compression is how a stream is compressed.
type Compression string

// What Detect answers.
const (
	Plain Compression = ""
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
	Bzip2 Compression = "bzip2"
	XZ    Compression = "xz"
)

var magics = [...]struct {
	c     Compression
	bytes string
}{{Gzip, "\x1f\x8b\x08"}, {Zstd, "\x28\xb5\x2f\xfd"}, {Bzip2, "BZh"}, {XZ, "\xfd7zXZ\x00"}}

// Detect says how a stream that starts with head is compressed.
func Detect(head []byte) Compression {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.bytes)) {
			return m.c
		}
	}
	return Plain
}

// Decompress answers the plain stream of r, whatever its compression, and which that was. Closing it does not close r.
// Content that is corrupt is an error of kind Invalid; an error of r itself keeps its own.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	src := &sourceReader{r: r}
	z, c, err := decompress(bufio.NewReaderSize(src, 128<<10))
	if err != nil || c == Plain {
		return z, c, err
	}
	return &checkedReader{ReadCloser: z, src: src, how: c}, c, nil
}

// sourceReader remembers whether the source failed, to tell that from corrupt content.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

type checkedReader struct {
	io.ReadCloser
	src *sourceReader
	how Compression
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	if c.src.err != nil {
		return n, c.src.err
	}
	if errors.Is(err, errs.TooLarge) || errors.Is(err, errs.Unsupported) {
		return n, err
	}
	return n, errs.New(errs.Invalid, "malformed %s: %w", c.how, err)
}

func decompress(br *bufio.Reader) (io.ReadCloser, Compression, error) {
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, Plain, err
	}
	c := Detect(head)
	switch c {
	case Gzip:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, c, errs.New(errs.Invalid, "malformed gzip: %w", err)
		}
		return z, c, nil
	case Zstd:
		// The window is the decoder's memory; 128 MiB is what `zstd --ultra` makes.
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, c, err
		}
		return z.IOReadCloser(), c, nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(br)), c, nil
	case XZ:
		z, err := newXZReader(br)
		if err != nil {
			return nil, c, errs.New(errs.Invalid, "malformed xz: %w", err)
		}
		return z, c, nil
	}
	return io.NopCloser(br), c, nil
}
