// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
)

// text writes a build as Docker's classic builder does: one step after the other. Stages run at once; the first that is not
// over writes as it goes, and the others wait in memory for their turn.
type text struct {
	mu    sync.Mutex // guards all
	w     io.Writer
	order []int // stages that are not over, in the order of the Dockerfile
	wait  map[int]*bytes.Buffer
	over  map[int]bool
}

// maxWaiting bounds what a stage's output may take in memory while another has the word; past it lines are lost.
const maxWaiting = 4 << 20

func newText(w io.Writer) *text {
	return &text{w: w, wait: map[int]*bytes.Buffer{}, over: map[int]bool{}}
}

// begin adds a stage.
func (t *text) begin(stage int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.order, stage) {
		t.order = append(t.order, stage)
		slices.Sort(t.order)
	}
}

// end gives the word to the next stage, and to the one after it if that is over too.
func (t *text) end(stage int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over[stage] = true
	for len(t.order) > 0 {
		first := t.order[0]
		t.flush(first)
		if !t.over[first] {
			return
		}
		t.order = t.order[1:]
	}
}

func (t *text) flush(stage int) {
	if b := t.wait[stage]; b != nil {
		t.w.Write(b.Bytes()) // a client that went away must not fail the build; its context tells
		delete(t.wait, stage)
	}
}

func (t *text) event(ev Event) {
	data := classic(ev)
	if len(data) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ev.stage < 0 || len(t.order) == 0 || t.order[0] == ev.stage {
		if ev.stage >= 0 {
			t.flush(ev.stage)
		}
		t.w.Write(data)
		return
	}
	b := t.wait[ev.stage]
	if b == nil {
		b = &bytes.Buffer{}
		t.wait[ev.stage] = b
	}
	if b.Len()+len(data) <= maxWaiting {
		b.Write(data)
	}
}

// classic is an event in the classic builder's words.
func classic(ev Event) []byte {
	switch ev.Kind {
	case Started:
		return fmt.Appendf(nil, "Step %d/%d : %s\n", ev.Step, ev.Of, ev.Text)
	case Running:
		return fmt.Appendf(nil, " ---> Running in %s\n", ev.Text)
	case Output:
		return ev.Output
	case Note:
		return []byte(ev.Text)
	case Cached:
		return fmt.Appendf(nil, " ---> Using cache\n ---> %s\n", shortID(ev.Image))
	case Done:
		return fmt.Appendf(nil, " ---> %s\n", shortID(ev.Image))
	case Warning:
		return fmt.Appendf(nil, "[Warning] line %d: %s\n", ev.Line, ev.Text)
	}
	return nil
}
