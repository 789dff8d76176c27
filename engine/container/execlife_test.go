// SPDX-License-Identifier: Apache-2.0

package container

import (
	"testing"
	"time"
)

// An exec belongs to its container, not to the daemon: a new one finds it running, and is told of its end.
func TestExecsOutliveTheDaemon(t *testing.T) {
	w := newWorld(t)
	c := w.create(Spec{Name: "host", Cmd: []string{"sleep", "60000"}})
	if err := w.Start(w.ctx(), c.ID); err != nil {
		t.Fatal(err)
	}
	begin := func(args ...string) string {
		id, err := w.ExecCreate(c.ID, ExecSpec{Args: args})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.ExecStart(w.ctx(), id, Streams{}, true); err != nil {
			t.Fatal(err)
		}
		return id
	}
	long, short := begin("/payload", "sleep", "60000"), begin("/payload", "sleep", "1500")
	w.close()
	w.open()
	st, err := w.ExecInspect(long)
	if err != nil || !st.Running || st.Pid == 0 || st.Spec.Args[0] != "/payload" {
		t.Fatalf("after the restart: %+v, %v", st, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(20 * time.Millisecond) {
		st, err := w.ExecInspect(short)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the short one: %+v, %v", st, err)
		}
		if !st.Running {
			if st.ExitCode != 0 {
				t.Errorf("exit code %d", st.ExitCode)
			}
			break
		}
	}
	if c, _ := w.Get(c.ID); len(c.ExecIDs) != 1 || c.ExecIDs[0] != long {
		t.Errorf("inspect names execs %v", c.ExecIDs)
	}
}
