// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"golang.org/x/term"
)

// buildEvent is what the daemon tells of a build (engine/build.Event).
type buildEvent struct {
	Kind   string    `json:"kind"`
	Time   time.Time `json:"time"`
	Step   int       `json:"step"`
	Stage  string    `json:"stage"`
	Place  string    `json:"place"`
	Line   int       `json:"line"`
	Text   string    `json:"text"`
	Output []byte    `json:"output"`
	Image  string    `json:"image"`
}

// buildProgress shows events.
type buildProgress interface {
	event(ev buildEvent, raw []byte)
	end() // nothing more comes
}

// progressOf chooses by --progress; auto is tty on a terminal, else plain.
func (b *buildFlags) progressOf(e *env) buildProgress {
	f, ok := e.err.(*os.File)
	live := ok && term.IsTerminal(int(f.Fd()))
	switch {
	case b.quiet || b.progress == "quiet":
		return rawProgress{io.Discard}
	case b.progress == "rawjson":
		return rawProgress{e.err}
	case b.progress == "tty" || b.progress == "auto" && live:
		width := 80
		if live {
			if w, _, err := term.GetSize(int(f.Fd())); err == nil {
				width = w
			}
		}
		return &ttyProgress{w: e.err, width: width, steps: map[int]*liveStep{}}
	}
	return &plainProgress{w: e.err, started: map[int]time.Time{}, partial: map[int][]byte{}}
}

// followBuild reads the daemon's answer to its end and answers the image's ID.
func (e *env) followBuild(r io.Reader, p buildProgress) (id string, err error) {
	defer p.end()
	dec := json.NewDecoder(r)
	for {
		var m jsonstream.Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return id, nil
		} else if err != nil {
			return "", fmt.Errorf("the daemon's answer broke off: %w", err)
		}
		switch {
		case m.Error != nil:
			return "", errors.New(m.Error.Message)
		case m.Aux != nil:
			var v struct {
				ID    string
				Event json.RawMessage `json:"event"`
			}
			var ev buildEvent
			if err := json.Unmarshal(*m.Aux, &v); err != nil {
				return "", fmt.Errorf("the daemon's answer is not understood: %w", err)
			}
			if v.ID != "" {
				id = v.ID
			}
			if v.Event != nil && json.Unmarshal(v.Event, &ev) == nil {
				p.event(ev, v.Event)
			}
		case m.Stream != "":
			p.event(buildEvent{Kind: "note", Text: m.Stream}, nil)
		}
	}
}

type rawProgress struct{ w io.Writer }

func (p rawProgress) event(_ buildEvent, raw []byte) {
	if raw != nil {
		fmt.Fprintf(p.w, "%s\n", raw)
	}
}

func (rawProgress) end() {}

// plainProgress prints a line for each thing that happens, with the number of its step.
type plainProgress struct {
	w       io.Writer
	started map[int]time.Time
	partial map[int][]byte // a step's output since its last line's end
	last    int
}

// title is "[build 2/4] RUN make".
func (ev buildEvent) title() string {
	text, _, more := strings.Cut(ev.Text, "\n")
	if more {
		text += " …"
	}
	return fmt.Sprintf("[%s %s] %s", ev.Stage, ev.Place, text)
}

func (p *plainProgress) line(step int, format string, args ...any) {
	if step != p.last && p.last != 0 {
		fmt.Fprintln(p.w)
	}
	p.last = step
	fmt.Fprintf(p.w, "#%d %s\n", step, fmt.Sprintf(format, args...))
}

func (p *plainProgress) event(ev buildEvent, _ []byte) {
	took := ev.Time.Sub(p.started[ev.Step]).Seconds()
	switch ev.Kind {
	case "started":
		p.started[ev.Step] = ev.Time
		p.line(ev.Step, "%s", ev.title())
	case "output":
		data := append(p.partial[ev.Step], ev.Output...)
		for {
			line, rest, ok := bytes.Cut(data, []byte("\n"))
			if !ok {
				break
			}
			p.line(ev.Step, "%.3f %s", took, strings.TrimRight(string(line), "\r"))
			data = rest
		}
		p.partial[ev.Step] = data
	case "cached":
		p.line(ev.Step, "CACHED")
	case "done", "failed":
		if rest := p.partial[ev.Step]; len(rest) > 0 {
			p.line(ev.Step, "%.3f %s", took, rest)
		}
		if ev.Kind == "done" {
			p.line(ev.Step, "DONE %.1fs", took)
		} else {
			p.line(ev.Step, "ERROR: %s", ev.Text)
		}
	case "warning":
		fmt.Fprintf(p.w, "warning: line %d: %s\n", ev.Line, ev.Text)
	case "note":
		if ev.Step == 0 {
			io.WriteString(p.w, ev.Text)
		}
	}
}

func (*plainProgress) end() {}

// ttyProgress redraws the running steps in place, each with the end of its output; finished ones stay above.
type ttyProgress struct {
	w     io.Writer
	width int
	steps map[int]*liveStep
	drawn int // lines to go up
}

type liveStep struct {
	title   string
	started time.Time
	now     time.Time
	tail    []string
	all     []byte // the end of the output, for a failure
}

const (
	tailLines = 4
	keepBytes = 16 << 10
)

func (p *ttyProgress) event(ev buildEvent, _ []byte) {
	s := p.steps[ev.Step]
	p.erase()
	switch ev.Kind {
	case "started":
		p.steps[ev.Step] = &liveStep{title: ev.title(), started: ev.Time, now: ev.Time}
	case "output":
		if s != nil {
			s.add(ev)
		}
	case "cached", "done", "failed":
		if s != nil {
			p.finish(s, ev)
		}
	case "warning":
		fmt.Fprintf(p.w, "warning: line %d: %s\n", ev.Line, ev.Text)
	case "note":
		if ev.Step == 0 {
			io.WriteString(p.w, ev.Text)
		}
	}
	p.draw()
}

func (s *liveStep) add(ev buildEvent) {
	s.now = ev.Time
	s.all = append(s.all, ev.Output...)
	s.all = s.all[max(0, len(s.all)-keepBytes):]
	lines := strings.Split(strings.TrimRight(string(s.all), "\n"), "\n")
	s.tail = lines[max(0, len(lines)-tailLines):]
}

func (p *ttyProgress) finish(s *liveStep, ev buildEvent) {
	delete(p.steps, ev.Step)
	what := fmt.Sprintf("%.1fs", ev.Time.Sub(s.started).Seconds())
	switch ev.Kind {
	case "cached":
		what = "CACHED"
	case "failed":
		what = "ERROR"
		p.w.Write(s.all)
	}
	p.print("=> "+s.title, what)
}

// print writes one line with a word at its right end, cut to the terminal's width.
func (p *ttyProgress) print(left, right string) {
	room := max(10, p.width-len(right)-2)
	runes := []rune(strings.Map(printable, left))
	if len(runes) > room {
		runes = append(runes[:room-1], '…')
	}
	fmt.Fprintf(p.w, "%s%s %s\n", string(runes), strings.Repeat(" ", room-len(runes)), right)
}

// printable drops what would move the cursor.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}

func (p *ttyProgress) erase() {
	if p.drawn > 0 {
		fmt.Fprintf(p.w, "\x1b[%dA\x1b[J", p.drawn)
	}
	p.drawn = 0
}

func (p *ttyProgress) draw() {
	var order []int
	for n := range p.steps {
		order = append(order, n)
	}
	slices.Sort(order)
	for _, n := range order {
		s := p.steps[n]
		p.print("-> "+s.title, fmt.Sprintf("%.1fs", s.now.Sub(s.started).Seconds()))
		p.drawn++
		for _, l := range s.tail {
			p.print("   "+l, "")
			p.drawn++
		}
	}
}

func (p *ttyProgress) end() {}
