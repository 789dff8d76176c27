// SPDX-License-Identifier: Apache-2.0

package container

import (
	"testing"
)

func TestRunEcho(t *testing.T) {
	w := newWorld(t)
	code, out := w.run(Spec{Cmd: []string{"echo", "hello"}})
	if code != 0 || out != "hello\n" {
		t.Fatalf("exit %d, output %q", code, out)
	}
}
