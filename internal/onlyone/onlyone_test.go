// SPDX-License-Identifier: Apache-2.0

package onlyone

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(path); !errors.Is(err, ErrTaken) {
		t.Fatalf("a second taker got %v", err)
	}
	time.AfterFunc(patience/10, func() { f.Close() })
	g, err := Take(path) // what is given back soon is waited for
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
}
