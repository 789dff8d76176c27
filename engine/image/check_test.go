// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestCheckFindsDamage(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	img := load(t, s, dockerArchive(t, "web:v1", baseLayers(t)...))
	if _, err := s.Prepare(t.Context(), "b", img, InitFiles{None: true}); err != nil {
		t.Fatal(err)
	}
	m := mounted(t, s, "b")
	os.WriteFile(filepath.Join(m, "new"), []byte("n"), 0o644)
	s.Unmount(m)
	made, err := s.CommitSnapshot(t.Context(), "b", CommitOptions{Name: "web:v2", Consume: true})
	if err != nil {
		t.Fatal(err)
	}
	if faults := s.Check(t.Context(), true); len(faults) != 0 {
		t.Fatalf("a sound store: %v", faults)
	}
	for name, c := range map[string]struct {
		harm func() error
		want string
	}{
		"changed directory": {func() error { return os.WriteFile(filepath.Join(s.layerFS(made.chain[2]), "new"), []byte("N"), 0o644) }, "its directory was changed"},
		"changed config":    {func() error { return os.WriteFile(s.blobPath(img.ID), []byte("{}"), 0o600) }, "the file on disk has other content"},
		"lost blob":         {func() error { return os.Remove(s.blobPath(s.layers[img.chain[0]].Blob.Digest)) }, "is missing"},
		"lost name":         {func() error { s.names["docker.io/library/x:y"] = digest.FromString("x"); return nil }, "points to image"},
		"lost directory":    {func() error { return os.RemoveAll(s.layerFS(img.chain[1])) }, "its directory is missing"},
	} {
		if err := c.harm(); err != nil {
			t.Fatal(name, err)
		}
		var text strings.Builder
		for _, f := range s.Check(t.Context(), true) {
			text.WriteString(f.Error() + "\n")
		}
		if !strings.Contains(text.String(), c.want) {
			t.Errorf("%s: no %q in:\n%s", name, c.want, text.String())
		}
	}
}
