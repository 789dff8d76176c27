// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/knarr/knarr/state/store"
)

// operation on one key; a write is "set value if the revision is still cond" (cond < 0: whatever it is).
type operation struct {
	key    string
	write  bool
	delete bool
	cond   int64
	value  string
}

// answer is the key's revision and value after the operation; ok: the write was applied, or the read found something.
type answer struct {
	ok    bool
	rev   int64
	value string
}

// register is one key of a store: its value and modification revision; absent is the zero value.
type register struct {
	rev   int64
	value string
}

// model is the contract of Get and Txn for one key. Revisions of applied writes are what the store says, but must grow.
func model() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			by := map[string][]porcupine.Operation{}
			for _, o := range history {
				k := o.Input.(operation).key
				by[k] = append(by[k], o)
			}
			var out [][]porcupine.Operation
			for _, h := range by {
				out = append(out, h)
			}
			return out
		},
		Init: func() any { return register{} },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(register), input.(operation), output.(answer)
			if !in.write {
				return out == answer{ok: s.rev != 0, rev: s.rev, value: s.value}, s
			}
			if in.cond >= 0 && in.cond != s.rev {
				return out == answer{rev: s.rev, value: s.value}, s
			}
			if !out.ok {
				return false, s
			}
			if in.delete {
				return true, register{}
			}
			return out.rev > s.rev, register{rev: out.rev, value: in.value}
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}

func testLinearizable(t *testing.T, s store.Store) {
	const clients, each, keys = 6, 60, 3
	var (
		mu      sync.Mutex
		history []porcupine.Operation
		wg      sync.WaitGroup
	)
	begin := time.Now()
	for c := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(c), 1))
			known := map[string]int64{}
			for i := range each {
				op := operation{key: fmt.Sprintf("/k%d", rnd.IntN(keys)), write: rnd.IntN(3) > 0, delete: rnd.IntN(5) == 0, cond: -1}
				if rnd.IntN(4) > 0 {
					op.cond = known[op.key]
				}
				op.value = fmt.Sprintf("%d.%d", c, i)
				call := time.Since(begin).Nanoseconds()
				out := perform(t, s, op)
				o := porcupine.Operation{ClientId: c, Input: op, Call: call, Output: out, Return: time.Since(begin).Nanoseconds()}
				known[op.key] = out.rev
				if op.write && op.delete && out.ok {
					known[op.key] = 0
				}
				mu.Lock()
				history = append(history, o)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := porcupine.CheckOperationsTimeout(model(), history, patience); got != porcupine.Ok {
		t.Fatalf("%d operations of %d clients: %s", len(history), clients, got)
	}
}

func perform(t *testing.T, s store.Store, op operation) answer {
	ctx := testContext(t)
	if !op.write {
		kv, ok, _, err := s.Get(ctx, op.key)
		if err != nil {
			t.Errorf("get: %v", err)
		}
		return answer{ok: ok, rev: kv.ModRevision, value: string(kv.Value)}
	}
	var conds []store.Cond
	if op.cond >= 0 {
		conds = []store.Cond{{Key: op.key, ModRevision: op.cond}}
	}
	rev, failed, err := s.Txn(ctx, conds, []store.Op{{Key: op.key, Value: []byte(op.value), Delete: op.delete}})
	if err != nil {
		t.Errorf("txn: %v", err)
	}
	if len(failed) > 0 {
		return answer{rev: failed[0].ModRevision, value: string(failed[0].Value)}
	}
	return answer{ok: true, rev: rev}
}
