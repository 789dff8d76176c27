// SPDX-License-Identifier: Apache-2.0

// Package detach finds the keys in a terminal's input by which a person leaves a container that goes on running.
//
// The keys are Docker's: "ctrl-p,ctrl-q" unless said otherwise. Both ends look for them: knarr, so that it knows that the
// person left; the engine, for clients that pass all input on. The package holds no state beyond a Reader and starts nothing.
package detach

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

// ErrDetached is what Read answers once the keys were typed.
var ErrDetached = errors.New("read escape sequence")

// Default is what people know.
const Default = "ctrl-p,ctrl-q"

// Parse reads keys such as "ctrl-p,ctrl-q" or "a,ctrl-@": each a character, or ctrl- and one of a-z @ [ \ ] ^ _. The empty
// text means Default.
func Parse(text string) ([]byte, error) {
	if text == "" {
		text = Default
	}
	var keys []byte
	for key := range strings.SplitSeq(text, ",") {
		b, ok := parseKey(key)
		if !ok {
			return nil, errs.New(errs.Invalid, "invalid detach keys (%s): unknown character: '%s'", text, key)
		}
		keys = append(keys, b)
	}
	return keys, nil
}

func parseKey(key string) (byte, bool) {
	if len(key) == 1 {
		return key[0], true
	}
	c, ok := strings.CutPrefix(strings.ToLower(key), "ctrl-")
	if !ok || len(c) != 1 {
		return 0, false
	}
	switch {
	case c[0] >= 'a' && c[0] <= 'z':
		return c[0] - 'a' + 1, true
	case c[0] == '@':
		return 0, true
	case c[0] >= '[' && c[0] <= '_':
		return c[0] - '[' + 27, true
	}
	return 0, false
}

// Reader passes r on until the keys occur. A beginning of them is held back until it is clear that it is none.
type Reader struct {
	r       io.Reader
	keys    []byte
	seen    int    // how many of the keys the input now ends with; they are held back
	pending []byte // decided, but not yet asked for
	err     error
}

// NewReader watches r. Without keys it watches for nothing.
func NewReader(r io.Reader, keys []byte) *Reader { return &Reader{r: r, keys: keys} }

// Read answers ErrDetached after the last byte before the keys.
func (d *Reader) Read(p []byte) (int, error) {
	if len(d.keys) == 0 {
		return d.r.Read(p)
	}
	for len(d.pending) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		n, err := d.r.Read(p)
		d.pending = d.filter(p[:n])
		if d.err == nil && err != nil { // what was held back is input after all
			d.pending = append(d.pending, d.keys[:d.seen]...)
			d.seen, d.err = 0, err
		}
	}
	n := copy(p, d.pending)
	d.pending = d.pending[n:]
	return n, nil
}

// filter answers what is surely input.
func (d *Reader) filter(in []byte) []byte {
	out := make([]byte, 0, len(in)+len(d.keys))
	for _, b := range in {
		held := append(bytes.Clone(d.keys[:d.seen]), b)
		d.seen = overlap(held, d.keys)
		if d.seen == len(d.keys) {
			d.err = ErrDetached
			return out
		}
		out = append(out, held[:len(held)-d.seen]...)
	}
	return out
}

// overlap is the length of the longest end of in that begins keys.
func overlap(in, keys []byte) int {
	for n := min(len(in), len(keys)); n > 0; n-- {
		if bytes.Equal(in[len(in)-n:], keys[:n]) {
			return n
		}
	}
	return 0
}
