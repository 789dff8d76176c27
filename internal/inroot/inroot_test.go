// SPDX-License-Identifier: Apache-2.0

package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func root(t *testing.T) (*Dir, string) {
	t.Helper()
	base := t.TempDir()
	dir := filepath.Join(base, "root")
	for _, d := range []string{"a/b", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(base, "secret"), []byte("host"), 0o600)
	os.WriteFile(filepath.Join(dir, "etc", "x"), []byte("inside"), 0o600)
	for link, to := range map[string]string{"up": "../../..", "abs": "/etc", "out": "../secret", "magic": "/proc/self/root"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, dir
}

func TestResolutionStaysInRoot(t *testing.T) {
	d, _ := root(t)
	for name, want := range map[string]bool{
		"etc/x": true, "/etc/x": true, "abs/x": true, "up/etc/x": true, "../../etc/x": true, "a/b/../../../../etc/x": true,
		"out": false, "up/secret": false, "../secret": false, "magic/etc/x": false,
	} {
		f, err := d.Open(name, unix.O_RDONLY, 0)
		if (err == nil) != want {
			t.Errorf("open %q: %v, want success %v", name, err, want)
		}
		if err == nil {
			f.Close()
		}
	}
}

func TestMkdirAllThroughLinks(t *testing.T) {
	d, dir := root(t)
	sub, err := d.MkdirAll("abs/new/deep", 0o711, nil)
	if err != nil {
		t.Fatal(err)
	}
	sub.Close()
	fi, err := os.Stat(filepath.Join(dir, "etc/new/deep"))
	if err != nil || fi.Mode().Perm() != 0o711 {
		t.Fatalf("%v %v", fi, err)
	}
	if _, err := d.MkdirAll("out/x", 0o755, nil); err == nil {
		t.Fatal("made a directory through a link that dangles in the root")
	}
	if _, err := d.MkdirAll("etc/x/y", 0o755, nil); !errors.Is(err, unix.ENOTDIR) {
		t.Fatalf("below a file: %v", err)
	}
}

func TestRemoveAllFollowsNothing(t *testing.T) {
	d, dir := root(t)
	os.Symlink(filepath.Dir(dir), filepath.Join(dir, "a/b/host"))
	if err := d.RemoveAll("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "secret")); err != nil {
		t.Fatal("removed through a link: ", err)
	}
	if err := d.RemoveAll("never/was"); err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveAll("/"); err == nil {
		t.Fatal("the root itself was removed")
	}
}

func TestSplit(t *testing.T) {
	for in, want := range map[string][2]string{"a": {"/", "a"}, "a/b/": {"/a/", "b"}, "../x": {"/", "x"}, "a/../..//b": {"/", "b"}} {
		d, b, err := Split(in)
		if err != nil || d != want[0] || b != want[1] {
			t.Errorf("%q: %q %q %v", in, d, b, err)
		}
	}
	for _, in := range []string{"", "/", ".", "..", "a/.."} {
		if _, _, err := Split(in); err == nil {
			t.Errorf("%q has no last element", in)
		}
	}
}
