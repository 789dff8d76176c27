// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/volume"
)

// worker owns one pod on this node.
type worker struct {
	k               *Kubelet
	uid             types.UID
	namespace, name string
	log             *slog.Logger
	wake            chan struct{} // of capacity 1
	background      sync.WaitGroup

	// Of the worker's goroutine alone:
	written  *corev1.Pod // as our last status write left it
	gone     bool        // we deleted the object
	paths    map[string]volume.Result
	probers  map[proberKey]context.CancelFunc
	failures int // passes in a row that ended in an error nobody remembers

	mu  sync.Mutex // guards mem: pulls, hooks and probes report there
	mem lifecycle.Memory
}

func newWorker(k *Kubelet, uid types.UID, namespace, name string) *worker {
	w := &worker{
		k: k, uid: uid, namespace: namespace, name: name, log: k.log.With("pod", namespace+"/"+name),
		wake: make(chan struct{}, 1), probers: map[proberKey]context.CancelFunc{},
		mem: lifecycle.Memory{
			FirstSeen: time.Now(), Pulls: map[string]lifecycle.Pull{}, Stops: map[string]lifecycle.Stop{}, Hooks: map[string]lifecycle.Hook{},
			Probes: map[string]lifecycle.Probes{}, Messages: map[string]string{}, Faults: map[string]lifecycle.Fault{}, Announced: map[string]bool{},
		},
	}
	_, err := os.Lstat(k.podDir(uid))
	w.mem.HasDir = err == nil
	w.mem.Volumes.Any = volume.Any(k.podDir(uid))
	w.poke()
	return w
}

// poke has the worker look again, now or after its present pass.
func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// update changes what is remembered, and has the worker look.
func (w *worker) update(f func(*lifecycle.Memory)) {
	w.mu.Lock()
	f(&w.mem)
	w.mu.Unlock()
	w.poke()
}

// refresh has the volumes brought up to date, and what failed for want of an object tried again at once.
func (w *worker) refresh() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mem.Volumes.Stale = true
	if f := w.mem.Volumes.Fault; f != nil {
		w.mem.Volumes.Fault = &lifecycle.Fault{Reason: f.Reason, Message: f.Message, At: f.At}
	}
	for name, f := range w.mem.Faults {
		if f.Reason == createContainerConfigError {
			f.Retry = time.Time{}
			w.mem.Faults[name] = f
		}
	}
}

// run is the pod's loop. When ctx ends it leaves the containers alone.
func (w *worker) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.background.Wait()
	defer cancel() // first: probes, pulls and hooks end with it
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		again, done := w.settle(ctx)
		if done {
			w.k.forget(w)
			return
		}
		if again <= 0 {
			again = 24 * time.Hour // nothing to wait for but events
		}
		timer.Reset(again)
	}
}

// maxRounds bounds a settle: a plan that never ends is a fault of ours, and must not burn a core.
const maxRounds = 200

// settle decides and applies until nothing is left to do but to wait.
func (w *worker) settle(ctx context.Context) (again time.Duration, done bool) {
	for range maxRounds {
		if ctx.Err() != nil {
			return 0, false
		}
		s, err := w.observe(ctx)
		if err != nil {
			return w.failed("observe", err), false
		}
		plan := lifecycle.Decide(s)
		w.syncProbes(ctx, s)
		if mustReport(plan) {
			if err := w.report(ctx, s); err != nil {
				return w.failed("report the status", err), false
			}
		}
		w.log.Debug("pass", "why", plan.Why, "actions", len(plan.Actions), "again", plan.Again)
		if len(plan.Actions) == 0 {
			w.failures = 0
			return plan.Again, false
		}
		for _, a := range plan.Actions {
			if _, ok := a.(lifecycle.Forget); ok {
				return 0, true
			}
			err := w.apply(ctx, s, a)
			if errors.Is(err, errRemembered) {
				break // it is part of the state now
			}
			if err != nil {
				return w.failed(actionName(a), err), false
			}
		}
	}
	return w.failed("settle", errors.New("the plan never ends")), false
}

// mustReport: the status is written when things have settled, and before the object goes.
func mustReport(p lifecycle.Plan) bool {
	for _, a := range p.Actions {
		switch a.(type) {
		case lifecycle.Event:
		case lifecycle.DeleteObject:
			return true
		default:
			return false
		}
	}
	return true
}

// failed spaces out tries that nothing will announce: 0.1 s, doubling to half a minute.
func (w *worker) failed(what string, err error) time.Duration {
	w.failures++
	wait := min(100*time.Millisecond<<min(w.failures, 10), 30*time.Second)
	if !errors.Is(err, context.Canceled) {
		w.log.Warn("a step of the pod's life failed and will be tried again", "step", what, "again", wait, "err", err)
	}
	return wait
}

// revision of an object; 0 when it has none.
func revision(p *corev1.Pod) int64 {
	if p == nil {
		return 0
	}
	n, _ := strconv.ParseInt(p.ResourceVersion, 10, 64)
	return n
}
