// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/knarr/knarr/internal/errs"
)

// Logs yields the lines of the log. With Follow it ends when the run that was under way has exited and all is read, or with
// ctx.
func (e *Engine) Logs(ctx context.Context, ref string, o LogOptions) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		c, err := e.find(ref)
		if err == nil && c.record().Spec.NoLog {
			err = errs.New(errs.Unsupported, "configured logging driver does not support reading")
		}
		if err == nil {
			err = e.readLog(ctx, c, o, func(l LogLine) bool { return yield(l, nil) })
		}
		if err != nil {
			yield(LogLine{}, fmt.Errorf("logs of %s: %w", ref, err))
		}
	}
}

// ended is closed when the present run is over; nil when none is.
func (c *entry) endedChan() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

func (e *Engine) readLog(ctx context.Context, c *entry, o LogOptions, yield func(LogLine) bool) error {
	r := &logReader{path: c.record().LogPath}
	defer func() { r.close() }()
	ended := c.endedChan()
	var changed <-chan struct{}
	if o.Follow && ended != nil {
		ch, cancel, err := e.tails.subscribe(r.path)
		if err != nil {
			return err
		}
		defer cancel()
		changed = ch
	}
	if err := r.openAt(o.Tail); err != nil {
		return err
	}
	for {
		// Looked at before reading: what was written before the end is read by the pass that follows.
		over := changed == nil || isClosed(ended)
		more, err := r.drain(o, yield)
		if err != nil || !more {
			return err
		}
		switch moved, err := r.advance(); {
		case err != nil:
			return err
		case moved:
			continue
		case over:
			return nil
		}
		select {
		case <-changed:
		case <-ended:
		case <-ctx.Done():
			return nil
		}
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// drain yields what there is to read, and says whether the reader wants more.
func (r *logReader) drain(o LogOptions, yield func(LogLine) bool) (bool, error) {
	for {
		text, err := r.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		l, ok := parseLogLine(text)
		switch {
		case !ok, l.Stream == "stdout" && !o.Stdout, l.Stream == "stderr" && !o.Stderr:
			continue
		case !o.Since.IsZero() && l.Time.Before(o.Since):
			continue
		case !o.Until.IsZero() && l.Time.After(o.Until):
			return false, nil
		}
		if !yield(l) {
			return false, nil
		}
	}
}
