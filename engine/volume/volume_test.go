// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

func open(t *testing.T, dir string) *Volumes {
	t.Helper()
	v, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want %v with %q", err, kind, text)
	}
}

func TestLifeOfAVolume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes")
	v := open(t, dir)
	vol, err := v.Create("web", "", map[string]string{"a": "b"}, nil)
	must(t, err)
	again, err := v.Create("web", "local", nil, nil)
	must(t, err)
	if again.Created != vol.Created || again.Labels["a"] != "b" {
		t.Errorf("creating again made another: %v, %v", vol, again)
	}
	anon, err := v.Create("", "", nil, nil)
	must(t, err)
	if len(anon.Name) != 64 || !anon.Anonymous {
		t.Errorf("anonymous volume %+v", anon)
	}
	path, err := v.Path("web")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(path, "f"), []byte("x"), 0o600))
	must(t, v.Acquire("web", "c1"))

	v = open(t, dir) // users are said again by whoever knows them
	if got := v.List(); len(got) != 2 {
		t.Errorf("after reopening: %v", got)
	}
	must(t, v.Acquire("web", "c1"))
	wantKind(t, v.Remove("web"), errs.Conflict, "volume is in use - [c1]")
	v.Release("web", "c1")
	must(t, v.Remove("web"))
	wantKind(t, v.Remove("web"), errs.NotFound, "no such volume: web")
	_, err = v.Path("web")
	wantKind(t, err, errs.NotFound, "no such volume: web")
	must(t, v.Remove(anon.Name))
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestBadNamesAndDrivers(t *testing.T) {
	v := open(t, t.TempDir())
	for _, name := range []string{"../x", ".hidden", "a/b", "-x", strings.Repeat("x", 256), "a b", "ä"} {
		if _, err := v.Create(name, "", nil, nil); !errors.Is(err, errs.Invalid) {
			t.Errorf("Create(%q) = %v", name, err)
		}
	}
	_, err := v.Create("x", "nfs", nil, nil)
	wantKind(t, err, errs.NotFound, `no volume driver "nfs"`)
	_, err = v.Create("x", "", nil, map[string]string{"type": "tmpfs"})
	wantKind(t, err, errs.Invalid, "type")
}

// At every point where a removal can be interrupted, the next Open finishes it.
func TestInterruptedRemovalIsFinished(t *testing.T) {
	dir := t.TempDir()
	v := open(t, dir)
	_, err := v.Create("x", "", nil, nil)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, removePrefix+"x"), nil, 0o600)) // the plan is there, nothing is done
	_, err = v.Create("y", "", nil, nil)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, removePrefix+"z"), nil, 0o600)) // all is done but the plan itself
	v = open(t, dir)
	if got := v.List(); len(got) != 1 || got[0].Name != "y" {
		t.Errorf("volumes %v, want y alone", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, removePrefix+"*")); len(left) != 0 {
		t.Errorf("plans left: %v", left)
	}
}

func TestInterruptedCreationIsNoVolume(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "x", dataDir), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "x", ".tmp-1"), []byte("{"), 0o600)) // the description, half written
	if got := open(t, dir).List(); len(got) != 0 {
		t.Errorf("volumes %v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("the folder is still there")
	}
}

// image makes a root filesystem with one of everything under /srv/data.
func image(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	d := filepath.Join(root, "srv/data")
	must(t, os.MkdirAll(filepath.Join(d, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(d, "sub/file"), []byte("content"), 0o644))
	must(t, os.Link(filepath.Join(d, "sub/file"), filepath.Join(d, "hard")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(d, "abs")))
	must(t, os.Symlink("../../../../etc", filepath.Join(d, "up")))
	must(t, unix.Mkfifo(filepath.Join(d, "fifo"), 0o640))
	must(t, os.Chmod(filepath.Join(d, "sub/file"), 0o755|os.ModeSetuid))
	must(t, os.Chmod(d, 0o1777|os.ModeSticky))
	if os.Geteuid() == 0 {
		must(t, os.Chown(d, 33, 44))
		must(t, os.Chown(filepath.Join(d, "sub/file"), 1, 2))
		must(t, os.Chmod(filepath.Join(d, "sub/file"), 0o755|os.ModeSetuid))
		must(t, os.Lchown(filepath.Join(d, "abs"), 5, 6))
		must(t, unix.Setxattr(filepath.Join(d, "sub/file"), "trusted.knarr", []byte("v"), 0))
	}
	return root
}

func TestCopyUpKeepsEverything(t *testing.T) {
	root := image(t)
	v := open(t, t.TempDir())
	_, err := v.Create("x", "", nil, nil)
	must(t, err)
	must(t, v.Acquire("x", "c1"))
	must(t, v.CopyUp("x", root, "/srv/data"))
	path, _ := v.Path("x")
	src := filepath.Join(root, "srv/data")
	for _, name := range []string{".", "sub", "sub/file", "hard", "abs", "up", "fifo"} {
		var a, b unix.Stat_t
		must(t, unix.Lstat(filepath.Join(src, name), &a))
		must(t, unix.Lstat(filepath.Join(path, name), &b))
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim {
			t.Errorf("%s: mode %o %d:%d %v, want %o %d:%d %v", name, b.Mode, b.Uid, b.Gid, b.Mtim, a.Mode, a.Uid, a.Gid, a.Mtim)
		}
	}
	one, _ := os.Stat(filepath.Join(path, "hard"))
	two, _ := os.Stat(filepath.Join(path, "sub/file"))
	if !os.SameFile(one, two) {
		t.Error("the hard link became a copy")
	}
	if target, _ := os.Readlink(filepath.Join(path, "abs")); target != "/etc/passwd" {
		t.Errorf("link target %q", target)
	}
	if os.Geteuid() == 0 {
		buf := make([]byte, 10)
		if n, err := unix.Getxattr(filepath.Join(path, "hard"), "trusted.knarr", buf); err != nil || string(buf[:n]) != "v" {
			t.Errorf("extended attribute: %q, %v", buf[:max(n, 0)], err)
		}
	}
}

func TestCopyUpLeavesContentAlone(t *testing.T) {
	root := image(t)
	v := open(t, t.TempDir())
	_, err := v.Create("x", "", nil, nil)
	must(t, err)
	path, _ := v.Path("x")
	must(t, os.WriteFile(filepath.Join(path, "mine"), nil, 0o600))
	must(t, v.CopyUp("x", root, "/srv/data"))
	if got, _ := os.ReadDir(path); len(got) != 1 {
		t.Errorf("content %v, want mine alone", got)
	}
}

func TestCopyUpOfNothing(t *testing.T) {
	root := image(t)
	v := open(t, t.TempDir())
	_, err := v.Create("x", "", nil, nil)
	must(t, err)
	for _, path := range []string{"/missing", "/srv/data/sub/file", "/srv/missing/deep"} {
		must(t, v.CopyUp("x", root, path))
	}
	if got, _ := os.ReadDir(filepath.Join(v.dir, "x", dataDir)); len(got) != 0 {
		t.Errorf("content %v", got)
	}
}

// CVE-2022-23648: neither "..", nor links of the image, lead out of its root.
func TestCopyUpStaysInsideTheRoot(t *testing.T) {
	root := image(t)
	secret := t.TempDir()
	must(t, os.WriteFile(filepath.Join(secret, "secret"), []byte("host"), 0o600))
	must(t, os.Symlink(secret, filepath.Join(root, "link")))
	must(t, os.Symlink("/srv/data", filepath.Join(root, "inner")))
	rel, err := filepath.Rel(root, secret)
	must(t, err)
	must(t, os.Symlink(rel, filepath.Join(root, "rel")))
	for _, path := range []string{"/link", "/rel", "/" + rel, "/../../../../.." + secret, "/link/../rel"} {
		v := open(t, t.TempDir())
		_, err := v.Create("x", "", nil, nil)
		must(t, err)
		v.CopyUp("x", root, path)
		data, _ := v.Path("x")
		if _, err := os.Stat(filepath.Join(data, "secret")); err == nil {
			t.Errorf("VOLUME %s copied a file of the host", path)
		}
	}
	v := open(t, t.TempDir())
	_, err = v.Create("x", "", nil, nil)
	must(t, err)
	must(t, v.CopyUp("x", root, "/inner"))
	data, _ := v.Path("x")
	if _, err := os.Stat(filepath.Join(data, "sub/file")); err != nil {
		t.Errorf("an absolute link inside the image was not followed: %v", err)
	}
}

// A volume that is mounted somewhere keeps its folder when a second container's image fills it.
func TestCopyUpIntoAMountedVolumeKeepsTheFolder(t *testing.T) {
	root := image(t)
	v := open(t, t.TempDir())
	_, err := v.Create("x", "", nil, nil)
	must(t, err)
	must(t, v.Acquire("x", "c1"))
	must(t, v.Acquire("x", "c2"))
	data, _ := v.Path("x")
	before, _ := os.Stat(data)
	must(t, v.CopyUp("x", root, "/srv/data"))
	after, _ := os.Stat(data)
	if !os.SameFile(before, after) {
		t.Error("the folder was replaced")
	}
	if _, err := os.Stat(filepath.Join(data, "sub/file")); err != nil {
		t.Error(err)
	}
}
