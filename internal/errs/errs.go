// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore ST1012 the package name is the prefix: errs.NotFound

// Package errs has the ten kinds of failure that the edges of Knarr tell apart.
//
// A package deep inside says what kind of failure it met by wrapping one of the sentinels below; each edge
// (API status, Docker JSON, gRPC code, exit code) maps the kinds in one table of its own. The text of an error is
// built by ordinary wrapping, "verb thing: %w", so that read aloud the chain is a sentence.
//
// It owns no state and starts nothing.
package errs

import (
	"errors"
	"fmt"
)

// The kinds. Test with errors.Is, or with Kind where all of them are mapped.
var (
	NotFound    = errors.New("not found")
	Exists      = errors.New("already exists")
	Conflict    = errors.New("conflict")        // the thing is in a state, or at a version, that forbids the operation
	Invalid     = errors.New("invalid")         // the request itself is wrong; saying it again cannot help
	Denied      = errors.New("denied")          // authenticated, but not allowed
	Unauthentic = errors.New("unauthenticated") // who is asking is not known
	Gone        = errors.New("gone")            // it was there, and will not come back (a compacted revision)
	Unavailable = errors.New("unavailable")     // not now; trying again may help
	TooLarge    = errors.New("too large")       // a bound was exceeded
	Unsupported = errors.New("not supported")   // this kernel or this version of Knarr cannot do it
)

// All lists the kinds, so that an edge's table can be tested to cover them.
var All = [...]error{NotFound, Exists, Conflict, Invalid, Denied, Unauthentic, Gone, Unavailable, TooLarge, Unsupported}

// Kind returns which of All err wraps, or nil.
func Kind(err error) error {
	for _, k := range All {
		if errors.Is(err, k) {
			return k
		}
	}
	return nil
}

// kinded is a message of its own with a kind that errors.Is finds and the text does not repeat.
type kinded struct {
	kind error
	err  error
}

func (e *kinded) Error() string   { return e.err.Error() }
func (e *kinded) Unwrap() []error { return []error{e.kind, e.err} }

// New makes an error of a kind whose text is the formatted message alone: the place for sentences such as
// `no such image: web`, where "not found" would say it twice. %w works as in fmt.Errorf.
func New(kind error, format string, args ...any) error {
	return &kinded{kind: kind, err: fmt.Errorf(format, args...)}
}
