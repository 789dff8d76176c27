// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

func TestGarbage(t *testing.T) {
	d := func(s string) digest.Digest { return digest.Digest(s) }
	c := contents{
		layers: map[digest.Digest]*layerRecord{
			"base": {ChainID: "base", Blob: &blobRef{Digest: "b-base"}}, "mid": {ChainID: "mid", Parent: "base"}, "top": {ChainID: "top", Parent: "mid"},
			"lone": {ChainID: "lone", Blob: &blobRef{Digest: "b-lone"}}, "snap": {ChainID: "snap", Parent: "base"}, "work": {ChainID: "work"},
		},
		images: []contentImage{{blobs: []digest.Digest{"config", "manifest"}, chain: []digest.Digest{"base", "mid"}}},
		snaps:  [][]digest.Digest{{"base", "snap"}},
		blobs:  []digest.Digest{"b-base", "b-lone", "config", "manifest", "old", "coming"},
		held:   map[digest.Digest]int{d("work"): 1, d("coming"): 2},
	}
	layers, blobs := garbage(c)
	if !slices.Equal(layers, []digest.Digest{"lone", "top"}) || !slices.Equal(blobs, []digest.Digest{"b-lone", "old"}) {
		t.Errorf("layers %v blobs %v", layers, blobs)
	}
	c.held["top"] = 1 // holding a layer holds what it stands on
	c.images, c.snaps = nil, nil
	if layers, _ := garbage(c); !slices.Equal(layers, []digest.Digest{"lone", "snap"}) {
		t.Errorf("held: %v", layers)
	}
}

func TestDecideRemoval(t *testing.T) {
	one := removalState{short: "abc", names: []string{"docker.io/library/web:v1"}, repos: 1}
	named := one
	named.byName = one.names[0]
	two := removalState{short: "abc", names: []string{"docker.io/library/a:1", "docker.io/library/b:1"}, repos: 2}
	twoNamed := two
	twoNamed.byName = two.names[1]
	used := []string{"c1"}
	busy := one
	busy.running = used
	for name, c := range map[string]struct {
		st    removalState
		force bool
		users []string
		want  string
	}{
		"last name":               {named, false, nil, "[docker.io/library/web:v1] true"},
		"one name of two":         {twoNamed, false, nil, "[docker.io/library/b:1] false"},
		"one name of two, used":   {twoNamed, false, used, "[docker.io/library/b:1] false"},
		"by ID":                   {one, false, nil, "[docker.io/library/web:v1] true"},
		"by ID, two repositories": {two, false, nil, "conflict: unable to delete abc (must be forced) - image is referenced in multiple repositories"},
		"by ID, two, forced":      {two, true, nil, "[docker.io/library/a:1 docker.io/library/b:1] true"},
		"by name, used":           {named, false, used, `conflict: unable to remove repository reference "web:v1" (must force) - container c1 is using its referenced image abc`},
		"by name, used, forced":   {named, true, used, "[docker.io/library/web:v1] false"},
		"by ID, used":             {one, false, used, "conflict: unable to delete abc (must be forced) - image is being used by stopped container c1"},
		"by ID, used, forced":     {one, true, used, "[docker.io/library/web:v1] true"},
		"by ID, running, forced":  {busy, true, used, "conflict: unable to delete abc (cannot be forced) - image is being used by running container c1"},
	} {
		c.st.users = c.users
		got, err := decideRemoval(c.st, c.force)
		text := fmt.Sprint(got.untag, got.delete)
		if err != nil {
			text = err.Error()
			if !errors.Is(err, errs.Conflict) {
				t.Errorf("%s: kind of %v", name, err)
			}
		}
		if text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
}

func files(t *testing.T, s *Store) string {
	t.Helper()
	var out []string
	for _, d := range []string{blobsDir, imagesDir, layersDir, partialDir, trashDir, plansDir} {
		list, err := os.ReadDir(s.path(d))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %d", d, len(list)))
	}
	return strings.Join(out, ", ")
}

const emptyStore = "blobs/sha256 0, images 0, layers 0, partial 0, trash 0, plans 0"

func TestRemove(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	img := load(t, s, dockerArchive(t, "web:v1", baseLayers(t)...))
	if err := s.Tag("web:v1", "localhost:5000/web"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "nope", RemoveOptions{}); !errors.Is(err, errs.NotFound) || err.Error() != "No such image: nope" {
		t.Error(err)
	}
	got, err := s.Remove(t.Context(), "localhost:5000/web", RemoveOptions{})
	if err != nil || len(got) != 1 || got[0].Untagged != "localhost:5000/web:latest" {
		t.Errorf("%v %v", got, err)
	}
	if _, err := s.Prepare(t.Context(), "c", img, InitFiles{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), img.ID.Encoded()[:8], RemoveOptions{Force: true, InUse: func(digest.Digest) []string { return []string{"c"} }}); err != nil {
		t.Fatal(err)
	}
	wantFile(t, mounted(t, s, "c")+"/hello", "one") // the snapshot keeps its layers
	if img2, err := s.CommitSnapshot(t.Context(), "c", CommitOptions{}); err != nil || len(img2.Layers) != 2 {
		t.Errorf("commit after the image went: %v %v", img2.Layers, err)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	if got := files(t, s); got != emptyStore {
		t.Fatal(got)
	}
	load(t, s, dockerArchive(t, "web:v1", baseLayers(t)...))
	if _, err := s.Remove(t.Context(), "web:v1", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := files(t, s); got != emptyStore {
		t.Error(got)
	}
}

func TestPrune(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	l := baseLayers(t)
	load(t, s, dockerArchive(t, "keep", l[0]))
	load(t, s, dockerArchive(t, "lose", l...))
	if err := s.Tag("keep", "lose"); err != nil { // takes the name away
		t.Fatal(err)
	}
	got, freed, err := s.Prune(t.Context(), PruneOptions{})
	if err != nil || len(got) != 1 || freed <= 0 || len(s.List()) != 1 || len(s.layers) != 1 {
		t.Errorf("%v %d %v; %d images %d layers", got, freed, err, len(s.List()), len(s.layers))
	}
	if _, _, err := s.Prune(t.Context(), PruneOptions{All: true, InUse: func(digest.Digest) []string { return []string{"c"} }}); err != nil || len(s.List()) != 1 {
		t.Error("an image in use was pruned: ", err)
	}
	if _, _, err := s.Prune(t.Context(), PruneOptions{All: true}); err != nil || files(t, s) != emptyStore {
		t.Error(files(t, s), err)
	}
}

// A plan found at Open is finished; half-made things go; the rest stays.
func TestRecovery(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s := openStore(t, dir)
	l := baseLayers(t)
	keep := load(t, s, dockerArchive(t, "keep", l[0]))
	gone := load(t, s, dockerArchive(t, "gone", l...))
	p := planRecord{Version: 1, Untag: []string{"docker.io/library/gone:latest"}, Images: []digest.Digest{gone.ID}, Layers: gone.chain[1:], Blobs: []digest.Digest{gone.ID}}
	for name, err := range map[string]error{
		"plan":     atomicfile.WriteJSON(s.path(plansDir, "1.json"), p, 0o600),
		"partial":  os.MkdirAll(s.path(partialDir, "layer-1", "fs", "a"), 0o755),
		"trash":    os.MkdirAll(s.path(trashDir, "x", "y"), 0o755),
		"temp":     os.WriteFile(s.path(".tmp-names.json-1"), nil, 0o600),
		"download": os.WriteFile(s.path(downloadsDir, "fresh"), nil, 0o600),
		"blob":     os.WriteFile(s.blobPath(digest.FromString("orphan")), []byte("orphan"), 0o600),
	} {
		if err != nil {
			t.Fatal(name, err)
		}
	}
	old := time.Now().Add(-48 * time.Hour)
	os.Chtimes(s.blobPath(digest.FromString("orphan")), old, old)
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, errs.Conflict) {
		t.Errorf("two at once: %v", err)
	}
	s.Close()
	s = openStore(t, dir)
	if got := s.List(); len(got) != 1 || got[0].ID != keep.ID || got[0].Names[0] != "keep:latest" {
		t.Errorf("%+v", got)
	}
	// The third blob is the removed layer's, unreferenced but young: the next Open after graceTime takes it.
	if got := files(t, s); got != "blobs/sha256 3, images 1, layers 1, partial 0, trash 0, plans 0" {
		t.Error(got)
	}
	if _, err := os.Stat(s.path(downloadsDir, "fresh")); err != nil {
		t.Error("a fresh download was thrown away")
	}
	if again := load(t, s, dockerArchive(t, "gone", l...)); again.ID != gone.ID {
		t.Error("what was removed cannot come back")
	}
}

func TestNames(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	img := load(t, s, dockerArchive(t, "nginx:1.8", baseLayers(t)...))
	for _, ref := range []string{"nginx:1.8", "docker.io/library/nginx:1.8", "library/nginx:1.8", string(img.ID), img.ID.Encoded(), img.ID.Encoded()[:6]} {
		if got, err := s.Get(ref); err != nil || got.ID != img.ID {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for ref, kind := range map[string]error{"nginx": errs.NotFound, "nginx:1.9": errs.NotFound, "UPPER": errs.Invalid, "": errs.Invalid, "a b": errs.Invalid, "sha256:" + strings.Repeat("0", 64): errs.NotFound} {
		if _, err := s.Get(ref); !errors.Is(err, kind) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	for _, bad := range []string{"web@" + string(img.ID), "UPPER", "", img.ID.Encoded()} {
		if err := s.Tag("nginx:1.8", bad); !errors.Is(err, errs.Invalid) {
			t.Errorf("tag %q: %v", bad, err)
		}
	}
	if got, err := s.Get("nginx@" + string(img.ID)); err != nil || got.ID != img.ID {
		t.Errorf("by config digest: %v", err)
	}
	if _, err := s.Load(t.Context(), bytes.NewReader(dockerArchive(t, "nginx:1.8", baseLayers(t)[0])), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(string(img.ID)); err != nil || !got.Dangling() {
		t.Errorf("the old image should be dangling: %+v %v", got.Names, err)
	}
}

func TestSnapshotKeys(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, key := range []string{"", ".", "..", "a/b", "../x", strings.Repeat("x", 200), "-a"} {
		if _, err := s.Prepare(t.Context(), key, Image{}, InitFiles{}); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", key, err)
		}
		if err := s.RemoveSnapshot(key); !errors.Is(err, errs.Invalid) {
			t.Errorf("remove %q: %v", key, err)
		}
	}
	if err := s.RemoveSnapshot("never-was"); err != nil {
		t.Error(err)
	}
}
