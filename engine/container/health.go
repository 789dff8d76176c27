// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Health is what the health check of a running container found.
type Health struct {
	Status        string // "starting", "healthy", "unhealthy"
	FailingStreak int
	Log           []HealthResult // the last ones, oldest first
}

// HealthResult is one run of the check.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int // -1: it took too long or could not run
	Output     string
}

// The defaults and bounds are Docker's.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
	healthLogLength     = 5
	healthOutput        = 4096
)

// healthState is the check of one run. It is guarded by entry.mu, but for stop.
type healthState struct {
	health Health
	stop   chan struct{} // closed at the run's end
}

func (h *healthState) view() *Health {
	if h == nil {
		return nil
	}
	v := h.health
	v.Log = slices.Clone(v.Log)
	return &v
}

// judge is what one result makes of the health. grace: still within the start period, in which failures do not count.
func judge(h Health, r HealthResult, retries int, grace bool) Health {
	h.Log = append(slices.Clone(h.Log[max(0, len(h.Log)-healthLogLength+1):]), r)
	switch {
	case r.ExitCode == 0:
		h.Status, h.FailingStreak = "healthy", 0
	case grace && h.Status == "starting":
	default:
		if h.FailingStreak++; h.FailingStreak >= retries {
			h.Status = "unhealthy"
		}
	}
	return h
}

// healthCommand is what a check executes; nil: there is no check.
func healthCommand(hc *HealthcheckConfig, shell []string) []string {
	if hc == nil || len(hc.Test) == 0 {
		return nil
	}
	switch hc.Test[0] {
	case "CMD":
		return hc.Test[1:]
	case "CMD-SHELL":
		if len(hc.Test) < 2 {
			return nil
		}
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(slices.Clone(shell), hc.Test[1])
	}
	return nil
}

// startHealth begins to check a run, if its image or spec says how.
func (e *Engine) startHealth(c *entry, rec record) {
	args := healthCommand(rec.Config.Healthcheck, rec.Config.Shell)
	if len(args) == 0 {
		return
	}
	h := &healthState{health: Health{Status: "starting"}, stop: make(chan struct{})}
	c.mu.Lock()
	c.health = h
	c.mu.Unlock()
	e.background(func(ctx context.Context) { e.checkHealth(ctx, c, h, *rec.Config.Healthcheck, args) })
}

func (e *Engine) stopHealth(c *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.health != nil {
		close(c.health.stop)
		c.health = nil
	}
}

func (e *Engine) checkHealth(ctx context.Context, c *entry, h *healthState, hc HealthcheckConfig, args []string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-h.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	began := time.Now()
	interval, retries := cmp.Or(hc.Interval, healthInterval), cmp.Or(hc.Retries, healthRetries)
	for {
		c.mu.Lock()
		wait := interval
		if h.health.Status == "starting" && hc.StartPeriod > 0 && time.Since(began) < hc.StartPeriod {
			wait = cmp.Or(hc.StartInterval, min(interval, healthStartInterval))
		}
		c.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		r := e.probe(ctx, c, args, cmp.Or(hc.Timeout, healthTimeout))
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		before := h.health.Status
		h.health = judge(h.health, r, retries, time.Since(began) < hc.StartPeriod)
		after := h.health.Status
		c.mu.Unlock()
		if before != after {
			e.emit(c, "health_status: "+after, nil)
		}
	}
}

// probe runs the check once.
func (e *Engine) probe(ctx context.Context, c *entry, args []string, timeout time.Duration) HealthResult {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := HealthResult{Start: time.Now()}
	out := &bounded{limit: healthOutput}
	exit, err := e.Exec(ctx, c.id, ExecSpec{Args: args}, Streams{Stdout: out, Stderr: out})
	r.End, r.ExitCode, r.Output = time.Now(), exit.Code, out.String()
	if err != nil {
		r.ExitCode, r.Output = -1, err.Error()
	}
	return r
}

// bounded keeps the first bytes that are written to it and takes the rest for nothing.
type bounded struct {
	mu    sync.Mutex // guards buf: two streams are written at once
	buf   bytes.Buffer
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := b.limit - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *bounded) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(bytes.ToValidUTF8(b.buf.Bytes(), []byte("\uFFFD")))
}
