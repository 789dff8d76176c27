// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/knarr/knarr/internal/errs"
)

// fault is one thing wrong with a Dockerfile. Line 0 is the file as a whole.
type fault struct {
	line int
	err  error
}

type faults []fault

// err is one error that lists every fault with its place and its line, nil if there is none.
func (fs faults) err(g Graph) error {
	if len(fs) == 0 {
		return nil
	}
	var b strings.Builder
	for i, f := range fs {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(g.place(f.line))
		b.WriteString(": ")
		b.WriteString(f.err.Error())
		b.WriteString(g.quote(f.line))
	}
	return errs.New(errs.Invalid, "%s", b.String())
}

// place is "Dockerfile:3".
func (g Graph) place(line int) string {
	if line == 0 {
		return g.File
	}
	return fmt.Sprintf("%s:%d", g.File, line)
}

// around is how many lines are shown before and after the one that is meant.
const around = 2

// quote shows the line under a message, with the lines around it.
func (g Graph) quote(line int) string { return g.quoteRange(line, line) }

func (g Graph) quoteRange(line, end int) string {
	if line < 1 || line > len(g.lines) {
		return ""
	}
	var b strings.Builder
	last := len(g.lines)
	if g.lines[last-1] == "" { // what follows the last line's end
		last--
	}
	end = min(end, line+20) // of a long here-document the beginning
	for n := max(1, line-around); n <= min(last, end+around); n++ {
		mark := "   "
		if n >= line && n <= end {
			mark = ">>>"
		}
		text := strings.TrimRight(g.lines[n-1], "\r")
		if len(text) > 200 {
			text = strings.ToValidUTF8(text[:200], "") + "…"
		}
		fmt.Fprintf(&b, "\n  %3d | %s %s", n, mark, text)
	}
	return b.String()
}

// at places an error of a running step.
func (g Graph) at(s Step, err error) error {
	return fmt.Errorf("%s: %w%s", g.place(s.Line), err, g.quoteRange(s.Line, s.EndLine))
}

// lineOf finds the line that the parser put into an error.
func lineOf(err error) int {
	var le *parser.LocationError
	if errors.As(err, &le) && len(le.Locations) > 0 && len(le.Locations[0]) > 0 {
		return le.Locations[0][0].Start.Line
	}
	return 0
}

// plainError is the innermost message: the parser's own wrapping repeats the line, which fault has.
func plainError(err error) error {
	var le *parser.LocationError
	if errors.As(err, &le) {
		return le.Unwrap()
	}
	return err
}
