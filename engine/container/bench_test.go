// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"sync"
	"testing"
)

// BenchmarkRunRm is `run --rm true` without the sockets around it: create, start, exit, removal.
func BenchmarkRunRm(b *testing.B) {
	for _, mode := range []string{"bridge", "none", "host"} {
		b.Run(mode, func(b *testing.B) {
			w := newWorld(b)
			ctx := context.Background()
			for b.Loop() {
				w.runRm(ctx, b, mode)
			}
		})
	}
}

func (w *world) runRm(ctx context.Context, b *testing.B, mode string) {
	c, err := w.Create(ctx, Spec{Image: "payload", AutoRemove: true, Network: NetworkSpec{Mode: mode}})
	if err != nil {
		b.Error(err)
		return
	}
	wait, err := w.Waiter(c.ID, Removed)
	if err == nil {
		err = w.Start(ctx, c.ID)
	}
	if err == nil {
		_, err = wait(ctx)
	}
	if err != nil {
		b.Error(err)
	}
}

// BenchmarkThirtyAtOnce is what a Deployment of 30 replicas asks of the engine: 30 sandboxes with a container each.
func BenchmarkThirtyAtOnce(b *testing.B) {
	w := newWorld(b)
	ctx := context.Background()
	for b.Loop() {
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				id := "pod" + string(rune('a'+i%26)) + string(rune('a'+i/26))
				if _, err := w.CreateSandbox(ctx, SandboxSpec{ID: id}); err != nil {
					b.Error(err)
					return
				}
				c, err := w.Create(ctx, Spec{Image: "payload", Sandbox: id, Cmd: []string{"wait"}})
				if err == nil {
					err = w.Start(ctx, c.ID)
				}
				if err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		if err := w.StopAll(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
