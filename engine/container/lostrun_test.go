// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A daemon that dies in a commit leaves the container frozen, with nothing on record that says so.
func TestFreezeOfACrashedCommitIsUndone(t *testing.T) {
	w := newWorld(t)
	c := w.start(Spec{Cmd: []string{"wait", "3"}})
	w.ready(c.ID)
	entry, err := w.find(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := entry.live().Pause(w.ctx()); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.open()
	if err := w.Stop(w.ctx(), c.ID, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.Get(c.ID); got.ExitCode != 3 {
		t.Errorf("exit code %d, want 3: it must have heard the stop signal", got.ExitCode)
	}
}

func TestPauseOutlivesTheDaemon(t *testing.T) {
	w := newWorld(t)
	c := w.start(Spec{Cmd: []string{"wait", "3"}})
	w.ready(c.ID)
	if err := w.Pause(w.ctx(), c.ID); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.open()
	entry, err := w.find(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	got := entry.status()
	g, err := w.layout.Open(got.Cgroup)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != Paused || !g.Frozen() {
		t.Errorf("state %s, frozen %t; want paused and frozen", got.State, g.Frozen())
	}
}

// Somebody empties the run folder while containers run: no monitor can be reached, no record of them is left but the
// engine's, and the next stop-all still ends everything.
func TestStopAllRecoversFromALostRunFolder(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		w.ready(w.start(Spec{Cmd: []string{"wait", "3"}}).ID)
	}
	w.sandbox(SandboxSpec{ID: "pod-1", CgroupParent: "kubepods/pod1"})
	w.close()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(w.runDir))
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(mounts)
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(w.runDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range entries {
		if err := os.RemoveAll(filepath.Join(w.runDir, d.Name())); err != nil {
			t.Fatal(err)
		}
	}
	w.open()
	if err := w.StopAll(w.ctx()); err != nil {
		t.Error(err)
	}
}
