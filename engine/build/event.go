// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// EventKind says what an Event is about.
type EventKind string

// The kinds. A step has one Started, then any number of the middle ones, then one of Cached, Done or Failed.
const (
	Started EventKind = "started"
	Running EventKind = "running" // Text is the key of the step's container
	Output  EventKind = "output"
	Note    EventKind = "note" // a line of the builder's own
	Cached  EventKind = "cached"
	Done    EventKind = "done"
	Failed  EventKind = "failed"
	Warning EventKind = "warning" // Text is the advice; Line is set
)

// Event is one thing that happens in a build, for who watches it.
type Event struct {
	Kind   EventKind     `json:"kind"`
	Time   time.Time     `json:"time"`
	Step   int           `json:"step,omitempty"`  // 1 to Of, in the order of the Dockerfile; 0: the build as a whole
	Of     int           `json:"of,omitempty"`    // number of steps
	Stage  string        `json:"stage,omitempty"` // its name, "stage-1" if it has none
	Place  string        `json:"place,omitempty"` // "2/4": of the stage's own steps
	Line   int           `json:"line,omitempty"`  // in the Dockerfile
	Text   string        `json:"text,omitempty"`  // of Started: the instruction; of Failed: the error
	Output []byte        `json:"output,omitempty"`
	Stderr bool          `json:"stderr,omitempty"`
	Image  digest.Digest `json:"image,omitempty"` // of Cached and Done: what the step made

	stage int // index, -1 for none
}

// Stage names as people see them.
func (s Stage) title() string {
	if s.Name != "" {
		return s.Name
	}
	return fmt.Sprintf("stage-%d", s.Index)
}

// tell hands an event to who watches. It may be called by several stages at once.
func (e *execution) tell(ev Event) {
	ev.Time = time.Now().UTC()
	e.text.event(ev)
	if e.req.Watch != nil {
		e.watching.Lock()
		defer e.watching.Unlock()
		e.req.Watch(ev)
	}
}

// note tells of the build as a whole.
func (e *execution) note(format string, args ...any) {
	e.tell(Event{Kind: Note, Text: fmt.Sprintf(format, args...), stage: -1})
}

// tell adds the place of the step that runs.
func (r *stageRun) tell(ev Event) {
	ev.Step, ev.Stage, ev.stage, ev.Of, ev.Place, ev.Line = r.step, r.st.title(), r.st.Index, r.e.graph.Count(), r.place, r.line
	r.e.tell(ev)
}

// output is a command's stdout or stderr.
type output struct {
	r      *stageRun
	stderr bool
}

func (o output) Write(p []byte) (int, error) {
	o.r.tell(Event{Kind: Output, Output: append([]byte(nil), p...), Stderr: o.stderr})
	return len(p), nil
}
