// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

func needMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}

func mounted(t *testing.T, path string) bool {
	t.Helper()
	is, err := mountinfo.Mounted(path)
	must(t, err)
	return is
}

func openMounting(t *testing.T) *Volumes {
	t.Helper()
	needMounts(t)
	v := open(t, t.TempDir())
	t.Cleanup(func() { v.Teardown() })
	return v
}

func TestDriverOptionsAreChecked(t *testing.T) {
	for want, opts := range map[string]map[string]string{
		`invalid option: "foo"`:             {"foo": "1"},
		`missing required option: "device"`: {"type": "tmpfs"},
		"absolute path":                     {"type": "none", "o": "bind", "device": "rel"},
		"want a number of bytes":            {"size": "12"},
		"what is mounted from elsewhere":    {"size": "1g", "type": "tmpfs", "device": "tmpfs"},
	} {
		_, err := open(t, t.TempDir()).Create("x", "", nil, opts)
		if !errors.Is(err, errs.Invalid) && !errors.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", opts, err, want)
		}
	}
	flags, data := mountOptions("ro,size=1m,nosuid,defaults,uid=7")
	if flags != unix.MS_RDONLY|unix.MS_NOSUID || data != "size=1m,uid=7" {
		t.Errorf("%x %q", flags, data)
	}
}

func TestATmpfsVolumeIsMountedWhileSomebodyRunsWithIt(t *testing.T) {
	v, ctx := openMounting(t), context.Background()
	_, err := v.Create("t", "", nil, map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"})
	must(t, err)
	at, _ := v.Path("t")
	for _, user := range []string{"a", "b", "a"} {
		must(t, v.Mount(ctx, "t", user))
	}
	var st unix.Statfs_t
	must(t, unix.Statfs(at, &st))
	if st.Blocks*uint64(st.Bsize) != 1<<20 {
		t.Errorf("size %d", st.Blocks*uint64(st.Bsize))
	}
	again := open(t, v.dir) // the daemon starts again, and b still runs
	must(t, again.Mount(ctx, "t", "b"))
	must(t, v.Unmount("t", "a"))
	if !mounted(t, at) {
		t.Error("gone while b runs")
	}
	must(t, again.Unmount("t", "b"))
	if mounted(t, at) {
		t.Error("still mounted")
	}
}

// Removing a volume that is a bind mount removes the volume, and never what it showed.
func TestABoundFolderOutlivesItsVolume(t *testing.T) {
	v, host := openMounting(t), t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "f"), []byte("x"), 0o644))
	_, err := v.Create("b", "", nil, map[string]string{"type": "none", "o": "bind,ro", "device": host})
	must(t, err)
	must(t, v.Mount(context.Background(), "b", "a"))
	at, _ := v.Path("b")
	if err := os.WriteFile(filepath.Join(at, "g"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v", err)
	}
	must(t, v.Remove("b")) // though a never said that it ended
	if _, err := os.Stat(filepath.Join(host, "f")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(at)); err == nil {
		t.Error("the volume is still there")
	}
}

func TestAVolumeWithASizeHoldsNoMore(t *testing.T) {
	v, ctx := openMounting(t), context.Background()
	if _, err := findMkfs(); err != nil {
		t.Skip(err)
	}
	_, err := v.Create("s", "", nil, map[string]string{"size": "8m"})
	must(t, err)
	must(t, v.Mount(ctx, "s", "a"))
	at, _ := v.Path("s")
	if !mounted(t, at) {
		t.Skip("no loop devices")
	}
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "srv"), 0o710))
	must(t, os.WriteFile(filepath.Join(root, "srv/f"), []byte("image"), 0o644))
	must(t, v.CopyUp("s", root, "/srv"))
	if got, _ := os.ReadFile(filepath.Join(at, "f")); string(got) != "image" {
		t.Errorf("copied up: %q", got)
	}
	if fi, _ := os.Stat(at); fi.Mode().Perm() != 0o710 {
		t.Errorf("mode %v", fi.Mode())
	}
	if err := os.WriteFile(filepath.Join(at, "big"), make([]byte, 9<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("9 MiB into 8: %v", err)
	}
	must(t, os.Remove(filepath.Join(at, "big")))
	must(t, v.Unmount("s", "a"))
	must(t, v.Mount(ctx, "s", "a"))
	if got, _ := os.ReadFile(filepath.Join(at, "f")); string(got) != "image" {
		t.Errorf("after mounting again: %q", got)
	}
}

// What is mounted of a volume is below it: what a container put there leads nowhere else (CVE-2021-25741).
func TestSubStaysBelowTheVolume(t *testing.T) {
	v := open(t, t.TempDir())
	_, err := v.Create("v", "", nil, nil)
	must(t, err)
	at, _ := v.Path("v")
	must(t, os.MkdirAll(filepath.Join(at, "a/b"), 0o755))
	must(t, os.Symlink("/etc", filepath.Join(at, "etc")))
	must(t, os.Symlink("a", filepath.Join(at, "inner")))
	f, err := v.Sub("v", "a/b")
	must(t, err)
	f.Close()
	for _, bad := range []string{"etc", "etc/passwd", "../volume.json", "/etc", "inner/b", "none"} {
		if f, err := v.Sub("v", bad); err == nil {
			f.Close()
			t.Errorf("%s was opened", bad)
		}
	}
}
