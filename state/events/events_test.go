// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

// api keeps the events it is given; it knows creating and the patch of a count.
type api struct {
	made    []*corev1.Event
	patches []string
	gone    bool
}

func (a *api) Do(_ context.Context, r client.Request) (kinds.Object, error) {
	switch r.Verb {
	case client.Create:
		e := r.Object.(*corev1.Event)
		a.made = append(a.made, e)
		return e, nil
	case client.Patch:
		if a.gone {
			a.gone = false
			return nil, errs.New(errs.NotFound, "no such event")
		}
		a.patches = append(a.patches, r.Name+string(r.Patch))
		return a.made[0], nil
	}
	return nil, errs.Unsupported
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: types.UID(name), ResourceVersion: "7"}}
}

// run runs a sink in a bubble.
func run(t *testing.T, test func(*api, Recorder)) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{}
		s := New(a, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }() //nolint:errcheck // it ends with ctx
		test(a, s.For("kubelet", "node-1"))
		cancel()
		<-done
	})
}

func TestAnEventSaysWhoWhatAndWhere(t *testing.T) {
	run(t, func(a *api, r Recorder) {
		r.EventAt(pod("p"), "spec.containers{c}", "Normal", "Pulled", "it is here")
		synctest.Wait()
		e := a.made[0]
		want := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "team", Name: "p", UID: "p", ResourceVersion: "7", FieldPath: "spec.containers{c}"}
		if e.InvolvedObject != want || e.Namespace != "team" || e.Count != 1 || e.Source.Component != "kubelet" || e.Source.Host != "node-1" || e.Reason != "Pulled" {
			t.Errorf("%+v", e)
		}
		r.Event(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, "Normal", "x", "y")
		synctest.Wait()
		if ns := a.made[1].Namespace; ns != "default" {
			t.Errorf("an event of a node is in namespace %q", ns)
		}
	})
}

func TestTheSameEventIsCountedForAWhile(t *testing.T) {
	run(t, func(a *api, r Recorder) {
		again := func() { r.Event(pod("p"), "Warning", "BackOff", "again"); synctest.Wait() }
		again()
		again()
		r.Event(pod("p"), "Warning", "BackOff", "another text")
		synctest.Wait()
		again()
		if len(a.made) != 2 || len(a.patches) != 2 {
			t.Fatalf("%d made, patches %q", len(a.made), a.patches)
		}
		if want := `"count":3`; !strings.Contains(a.patches[1], want) {
			t.Errorf("patch %s, want %s", a.patches[1], want)
		}
		a.gone = true // somebody removed it
		again()
		time.Sleep(window + time.Second)
		again()
		if len(a.made) != 4 || a.made[3].Count != 1 {
			t.Errorf("%d made", len(a.made))
		}
	})
}

func TestAnObjectCannotFlood(t *testing.T) {
	run(t, func(a *api, r Recorder) {
		for i := range 100 {
			r.Event(pod("noisy"), "Normal", "x", fmt.Sprint(i))
			synctest.Wait()
		}
		r.Event(pod("quiet"), "Normal", "x", "y")
		synctest.Wait()
		if len(a.made) != burst+1 {
			t.Errorf("%d events", len(a.made))
		}
		time.Sleep(refill)
		r.Event(pod("noisy"), "Normal", "x", "later")
		synctest.Wait()
		if len(a.made) != burst+2 {
			t.Errorf("%d events after a while", len(a.made))
		}
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	run(t, func(a *api, r Recorder) {
		for i := range 3 * remembered {
			r.Event(pod(fmt.Sprint("p", i)), "Normal", "x", "y")
			synctest.Wait()
		}
		if n := len(r.sink.known); n > remembered {
			t.Errorf("%d events remembered", n)
		}
		if n := len(r.sink.budgets); n > remembered {
			t.Errorf("%d objects remembered", n)
		}
	})
}
