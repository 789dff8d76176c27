// SPDX-License-Identifier: Apache-2.0

package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPauseDoublesUpToMaxAndStartsAnew(t *testing.T) {
	p := Pause{First: 10, Max: 70}
	for _, want := range []time.Duration{10, 20, 40, 70, 70} {
		if got := p.Next(); got != want {
			t.Errorf("Next() = %d, want %d", got, want)
		}
	}
	p.Reset()
	if got := p.Next(); got != 10 {
		t.Errorf("Next() after Reset = %d, want 10", got)
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pause{First: time.Hour, Max: time.Hour}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		if err := p.Wait(ctx); err == nil || err.Error() != "enough" {
			t.Errorf("Wait = %v", err)
		}
		if err := p.Wait(t.Context()); err != nil {
			t.Errorf("Wait = %v", err)
		}
	})
}
