// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"os"
	"testing"
)

func inits(t *testing.T, s *Store) int {
	t.Helper()
	s.burning.Wait()
	entries, err := os.ReadDir(s.path(initsDir))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestSnapshotsOfOneKindShareAnInitLayer(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s := openStore(t, dir)
	img := load(t, s, dockerArchive(t, "web:v1", baseLayers(t)...))
	prepare := func(key string, f InitFiles) string {
		snap, err := s.Prepare(t.Context(), key, img, f)
		if err != nil {
			t.Fatal(err)
		}
		return snap.Lower[0]
	}
	one, two := prepare("one", InitFiles{Volatile: true}), prepare("two", InitFiles{})
	if other := prepare("other", InitFiles{Dirs: []string{"/data"}}); one != two || other == one {
		t.Errorf("init layers %s, %s and, with a mount point more, %s", one, two, other)
	}
	// What one container writes over it, the other does not see.
	a, b := mounted(t, s, "one"), mounted(t, s, "two")
	if err := os.WriteFile(a+"/etc/hostname", []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantFile(t, b+"/etc/hostname", "")
	if err := s.Unmount(b); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"two", "other"} {
		if err := s.RemoveSnapshot(key); err != nil {
			t.Fatal(err)
		}
	}
	if n := inits(t, s); n != 2 {
		t.Errorf("%d init layers, want the used one and the idle one", n)
	}
	if err := s.Unmount(a); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	if n := inits(t, s); n != 1 {
		t.Errorf("%d init layers after a restart, want that of the one snapshot", n)
	}
	wantFile(t, mounted(t, s, "one")+"/etc/hostname", "a")
	// It may be torn by a power cut, so it is nobody else's any more.
	if again := prepare("three", InitFiles{}); again == one {
		t.Error("an init layer of the last run is given to a new snapshot")
	}
	if faults := s.Check(t.Context(), false); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestIdleInitLayersAreBounded(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	for i := range idleInits + 5 {
		if _, err := s.Prepare(t.Context(), "c", Image{}, InitFiles{Volatile: true, Dirs: []string{fmt.Sprint("/d", i)}}); err != nil {
			t.Fatal(err)
		}
		if err := s.RemoveSnapshot("c"); err != nil {
			t.Fatal(err)
		}
	}
	if n := inits(t, s); n != idleInits {
		t.Errorf("%d idle init layers, want %d", n, idleInits)
	}
}
