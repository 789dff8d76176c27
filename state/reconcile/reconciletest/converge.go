// SPDX-License-Identifier: Apache-2.0

package reconciletest

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// TB is what Converges needs of *testing.T and *rapid.T.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Check narrows Converges. The zero value works.
type Check struct {
	// Settle plays the rest of the cluster after each round (pods become ready, deleted ones vanish).
	Settle func(*World)
	// Invariant must hold after every single action.
	Invariant func(*cache.Snapshot) error
	// Rounds is how many may be needed; 0: 50.
	Rounds int
}

// Converges applies the controllers' plans to the world, action by action, until none of them has anything left to do: the
// fifth law. It fails if that does not come, and shows the plans of the last round.
func Converges(t TB, w *World, check Check, controllers ...reconcile.Controller) {
	t.Helper()
	if check.Rounds == 0 {
		check.Rounds = 50
	}
	var last []string
	for range check.Rounds {
		last = last[:0]
		before := w.revision()
		for _, c := range controllers {
			last = append(last, round(t, w, check, c)...)
		}
		if check.Settle != nil {
			check.Settle(w)
		}
		if len(last) == 0 && w.revision() == before {
			return
		}
	}
	t.Fatalf("no rest after %d rounds; the last one's plans:\n%s", check.Rounds, strings.Join(last, "\n"))
}

func (w *World) revision() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rev
}

// round looks at every key of a controller once and says what it had to do.
func round(t TB, w *World, check Check, c reconcile.Controller) []string {
	t.Helper()
	var did []string
	for _, k := range keys(c, w.Cache.Snapshot()) {
		plan, ok := c.Explain(w.Cache.Snapshot(), k, w.Now())
		if !ok || plan.Empty() {
			continue
		}
		did = append(did, fmt.Sprintf("%s %s: %s %s", c.Name, k, plan.Why, Describe(plan)))
		for _, p := range steps(plan) {
			if err := reconcile.Apply(context.Background(), w, discard{}, c.Name, p); err != nil {
				t.Fatalf("%s %s: apply: %v\n%s", c.Name, k, err, Describe(plan))
			}
			if check.Invariant == nil {
				continue
			}
			if err := check.Invariant(w.Cache.Snapshot()); err != nil {
				t.Fatalf("%s %s: after %s: %v\nthe plan: %s", c.Name, k, Describe(p), err, Describe(plan))
			}
		}
	}
	return did
}

func keys(c reconcile.Controller, s *cache.Snapshot) []reconcile.Key {
	seen := map[reconcile.Key]bool{}
	var out []reconcile.Key
	for _, k := range c.Keys(s) {
		if !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].String() < out[j].String() })
	return out
}

// steps cuts a plan into plans of one action.
func steps(p reconcile.Plan) []reconcile.Plan {
	var out []reconcile.Plan
	for _, a := range p.Actions {
		if b, ok := a.(reconcile.Batch); ok {
			out = append(out, steps(reconcile.Plan{Actions: b.Actions})...)
		} else {
			out = append(out, reconcile.Plan{Actions: []reconcile.Action{a}})
		}
	}
	if p.Status != nil {
		out = append(out, reconcile.Plan{Status: p.Status})
	}
	return out
}

type discard struct{}

func (discard) Event(kinds.Object, string, string, string) {}

// Describe writes a plan in one line: what tests compare.
func Describe(p reconcile.Plan) string { return p.String() }
