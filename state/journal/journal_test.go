// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, dir string) *Journal {
	j, err := Open(dir, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func TestEntriesAreFoundAfterACrash(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	j := open(t, dir)
	for i := range 10 {
		if err := j.Note(Entry{Revision: int64(i), Time: now, User: "me", Key: fmt.Sprintf("/registry/x/%d", i%2)}); err != nil {
			t.Fatal(err)
		}
	}
	// What a kill in the middle of a write leaves.
	if _, err := j.file.WriteString(`{"r":10,"k":"/registry/x/1"`); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if err := again.Note(Entry{Revision: 11, Time: now.Add(time.Second), User: "you", Key: "/registry/x/1"}); err != nil {
		t.Fatal(err)
	}
	got, err := again.Of("/registry/x/1")
	if err != nil || len(got) != 6 || got[11].User != "you" || got[3].User != "me" {
		t.Fatalf("%v %v", got, err)
	}
	if got, err := again.Of("/registry/x"); err != nil || len(got) != 0 {
		t.Fatalf("part of a key: %v %v", got, err)
	}
}

func TestSizeAndAgeAreBounded(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	now := time.Now()
	big := strings.Repeat("u", 50<<10)
	for i := range (maxFiles + 3) * fileSize / len(big) {
		now = now.Add(time.Millisecond)
		if err := j.Note(Entry{Revision: int64(i), Time: now, User: big, Key: "/a"}); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := j.files(); len(names) != maxFiles {
		t.Errorf("%d files", len(names))
	}
	old := filepath.Join(dir, "writes-00000000000000000001.jsonl")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, now.Add(-2*time.Hour), now.Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if err := j.Note(Entry{Revision: 1, Time: now.Add(time.Second), Key: "/b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("a file older than the journal keeps is still there")
	}
}
