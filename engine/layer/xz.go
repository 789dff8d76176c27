// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"

	"github.com/knarr/knarr/internal/errs"
)

// maxXZDict bounds the decoder's memory: `xz -9` wants 64 MiB. The library takes what each block's header says, up to 4 GiB,
// so the container format (tukaani.org/xz/xz-file-format.txt, sections 2 and 3) is read here and only LZMA2 is left to it.
const maxXZDict = 128 << 20

// xzReader reads one .xz stream; what follows it is not looked at.
type xzReader struct {
	src   *countingReader
	check byte // section 2.1.1.2: kind of check after each block
	block io.Reader
	sum   hash.Hash
	done  bool
}

// countingReader is where blocks are read from: their padding depends on their length.
type countingReader struct {
	br *bufio.Reader
	n  int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.br.Read(p)
	c.n += int64(n)
	return n, err
}

// ReadByte keeps LZMA2 from reading ahead.
func (c *countingReader) ReadByte() (byte, error) {
	b, err := c.br.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

var errXZ = errors.New("xz header")

func newXZReader(br *bufio.Reader) (io.ReadCloser, error) {
	x := &xzReader{src: &countingReader{br: br}}
	var head [12]byte
	if _, err := io.ReadFull(x.src, head[:]); err != nil {
		return nil, err
	}
	if head[6] != 0 || head[7]&0xf0 != 0 || binary.LittleEndian.Uint32(head[8:]) != crc32.ChecksumIEEE(head[6:8]) {
		return nil, errXZ
	}
	x.check = head[7]
	return io.NopCloser(x), nil
}

func (x *xzReader) Read(p []byte) (int, error) {
	for {
		if x.done {
			return 0, io.EOF
		}
		if x.block == nil {
			if err := x.begin(); err != nil {
				return 0, unexpected(err)
			}
			continue
		}
		n, err := x.block.Read(p)
		if x.sum != nil {
			x.sum.Write(p[:n])
		}
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			err = unexpected(x.end())
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// begin reads a block's header; a zero byte in its place is the index, which ends the blocks.
func (x *xzReader) begin() error {
	x.src.n = 0
	size, err := x.src.ReadByte()
	if err != nil {
		return err
	}
	if size == 0 {
		x.done = true
		return nil
	}
	head := make([]byte, (int(size)+1)*4)
	head[0] = size
	if _, err := io.ReadFull(x.src, head[1:]); err != nil {
		return err
	}
	body, sum := head[:len(head)-4], head[len(head)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return errXZ
	}
	dict, err := xzDict(body[1:])
	if err != nil {
		return err
	}
	x.src.n = 0
	if x.block, err = (lzma.Reader2Config{DictCap: dict}).NewReader2(x.src); err != nil {
		return err
	}
	x.sum = xzSum(x.check)
	return nil
}

// xzDict reads flags, sizes and the filter list, which must be LZMA2 alone.
func xzDict(b []byte) (int, error) {
	flags := b[0]
	r := bytes.NewReader(b[1:])
	for _, bit := range []byte{0x40, 0x80} { // compressed and uncompressed size: the block's own end tells
		if flags&bit != 0 {
			if _, err := binary.ReadUvarint(r); err != nil {
				return 0, errXZ
			}
		}
	}
	var filter [3]byte
	if _, err := io.ReadFull(r, filter[:]); err != nil {
		return 0, errXZ
	}
	if flags&0x3f != 0 || filter[0] != 0x21 || filter[1] != 1 {
		return 0, errs.New(errs.Unsupported, "xz with filters other than LZMA2 is not supported; use plain xz, gzip or zstd")
	}
	dict, err := lzma.DecodeDictCap(filter[2])
	if err != nil || dict > maxXZDict {
		return 0, errs.New(errs.TooLarge, "xz with a dictionary of more than %d MiB", maxXZDict>>20)
	}
	return int(max(dict, lzma.MinDictCap)), nil
}

func xzSum(check byte) hash.Hash {
	switch check {
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		return sha256.New()
	}
	return nil
}

// end takes the padding and the check, whose length section 2.1.1.2 gives also for kinds that are not known.
func (x *xzReader) end() error {
	x.block = nil
	lengths := [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	tail := make([]byte, int(-x.src.n&3)+lengths[x.check])
	pad := len(tail) - lengths[x.check]
	if _, err := io.ReadFull(x.src, tail); err != nil {
		return err
	}
	if x.sum == nil {
		return nil
	}
	want := x.sum.Sum(nil)
	if x.check != 10 { // the two CRCs are stored little endian
		for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
			want[i], want[j] = want[j], want[i]
		}
	}
	if !bytes.Equal(want, tail[pad:]) {
		return errors.New("xz check sum is wrong")
	}
	return nil
}
