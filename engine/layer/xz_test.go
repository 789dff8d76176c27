// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/knarr/knarr/internal/errs"
)

func xzOf(t testing.TB, text string, check byte, block int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.WriterConfig{CheckSum: check, BlockSize: block, DictCap: 1 << 16}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unxz(data []byte) (string, error) {
	r, _, err := Decompress(bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	out, err := io.ReadAll(io.LimitReader(r, 1<<20))
	return string(out), err
}

func TestXZ(t *testing.T) {
	text := strings.Repeat("some words that come again; ", 1000)
	for _, check := range []byte{xz.CRC32, xz.CRC64, xz.SHA256} {
		for _, block := range []int64{0, 777} {
			data := xzOf(t, text, check, block)
			if got, err := unxz(data); err != nil || got != text {
				t.Errorf("check %d, block %d: %d bytes, %v", check, block, len(got), err)
			}
			if _, err := unxz(data[:len(data)/2]); !errors.Is(err, errs.Invalid) {
				t.Errorf("cut: %v", err)
			}
		}
	}
	bad := xzOf(t, text, xz.CRC64, 0)
	bad[len(bad)-40] ^= 1 // in the check or the index before the footer
	if _, err := unxz(bad); err != nil && !errors.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

// A header that asks for 4 GiB of dictionary is refused before anything is allocated.
func TestXZHugeDictionary(t *testing.T) {
	data := xzOf(t, "x", xz.CRC32, 0)
	head := data[12 : 12+(int(data[12])+1)*4]
	at := bytes.Index(head, []byte{0x21, 1})
	head[at+2] = 40
	sum := crc32.ChecksumIEEE(head[:len(head)-4])
	copy(head[len(head)-4:], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
	if _, err := unxz(data); !errors.Is(err, errs.TooLarge) {
		t.Error(err)
	}
}

func FuzzXZ(f *testing.F) {
	f.Add(xzOf(f, "hello", xz.CRC64, 0))
	f.Add(xzOf(f, strings.Repeat("a", 3000), xz.SHA256, 500))
	f.Fuzz(func(t *testing.T, data []byte) { unxz(append([]byte("\xfd7zXZ\x00"), data...)) })
}
