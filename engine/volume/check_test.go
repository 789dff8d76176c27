// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	v, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Create("good", "", nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Create("bad", "", nil, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Check(); err != nil || len(got) != 0 {
		t.Errorf("sound: %q %v", got, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "bad")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "stray"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := v.Check()
	text := strings.Join(got, "\n")
	if err != nil || !strings.Contains(text, "volume bad has no folder") || !strings.Contains(text, "folder stray belongs to no volume") || len(got) != 2 {
		t.Errorf("%q %v", got, err)
	}
}
