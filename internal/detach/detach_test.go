// SPDX-License-Identifier: Apache-2.0

package detach

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"": "\x10\x11", "ctrl-p,ctrl-q": "\x10\x11", "a": "a", "ctrl-@,z": "\x00z", "ctrl-[": "\x1b", "ctrl-_": "\x1f", "CTRL-A": "\x01",
	} {
		if got, err := Parse(text); err != nil || string(got) != want {
			t.Errorf("Parse(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-p,", "ctrl-é"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %q, want an error", text, got)
		}
	}
}

func TestReader(t *testing.T) {
	for _, c := range []struct {
		keys, in, want string
		left           bool
	}{
		{"PQ", "hello", "hello", false},
		{"PQ", "helloPQ", "hello", true},
		{"PQ", "aPbPPQz", "aPbP", true},
		{"PQ", "ends in P", "ends in P", false},
		{"PPQ", "PPPQ", "P", true},
		{"ABAC", "ABABAC", "AB", true},
		{"P", "xPy", "x", true},
		{"", "PQ", "PQ", false},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(c.in), "bytes": iotest.OneByteReader(strings.NewReader(c.in)), "data with EOF": iotest.DataErrReader(strings.NewReader(c.in))} {
			got, err := io.ReadAll(NewReader(r, []byte(c.keys)))
			if string(got) != c.want || errors.Is(err, ErrDetached) != c.left || err != nil && !c.left {
				t.Errorf("keys %q, input %q (%s): %q, %v; want %q, left %v", c.keys, c.in, name, got, err, c.want, c.left)
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("abcPQ"), []byte("PQ"))
	f.Fuzz(func(t *testing.T, in, keys []byte) {
		if len(keys) > 16 {
			return
		}
		got, err := io.ReadAll(iotest.OneByteReader(NewReader(bytes.NewReader(in), keys)))
		want, left := in, false
		if i := bytes.Index(in, keys); i >= 0 && len(keys) > 0 {
			want, left = in[:i], true
		}
		if !bytes.Equal(got, want) || errors.Is(err, ErrDetached) != left {
			t.Fatalf("keys %q in %q: got %q, %v", keys, in, got, err)
		}
	})
}
