// SPDX-License-Identifier: Apache-2.0

package errs

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindIsFoundThroughWrapping(t *testing.T) {
	for _, k := range All {
		if got := Kind(fmt.Errorf("open x: %w", k)); got != k {
			t.Errorf("Kind(wrapped %v) = %v", k, got)
		}
		if got := Kind(fmt.Errorf("run x: %w", New(k, "no x"))); got != k {
			t.Errorf("Kind(wrapped New(%v)) = %v", k, got)
		}
	}
	if got := Kind(io.EOF); got != nil {
		t.Errorf("Kind(EOF) = %v, want nil", got)
	}
}

func TestNewKeepsTextAndCause(t *testing.T) {
	err := New(NotFound, "no such image: %s: %w", "web", io.EOF)
	if got, want := err.Error(), "no such image: web: EOF"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
}
