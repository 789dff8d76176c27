// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/volume"
)

// victim is a folder that stands for the host.
func victim(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shadow"), []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func untouched(t *testing.T, dir string) {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join(dir, "shadow")); err != nil || string(b) != "host" {
		t.Errorf("the host's file is %q, %v", b, err)
	}
}

// CVE-2017-1002102: an update deletes what the container made ..data point to.
func TestSwappedDataLinkDeletesNothingOfTheHost(t *testing.T) {
	for name, spoil := range map[string]func(dir, host string) error{
		"..data":   func(dir, host string) error { return relink(filepath.Join(dir, "..data"), host) },
		"key":      func(dir, host string) error { return relink(filepath.Join(dir, "a"), host) },
		"data tmp": func(dir, host string) error { return os.Symlink(host, filepath.Join(dir, "..data_tmp")) },
		"version": func(dir, host string) error {
			return os.Symlink(host, filepath.Join(dir, "..2020_01_01_00_00_00.1"))
		},
		"version itself": func(dir, host string) error {
			v, err := os.Readlink(filepath.Join(dir, "..data"))
			if err != nil {
				return err
			}
			return relink(filepath.Join(dir, v), host)
		},
		"folder": func(dir, host string) error {
			if err := os.Remove(filepath.Join(dir, "..data")); err != nil {
				return err
			}
			return os.MkdirAll(filepath.Join(dir, "..data", "x"), 0o755)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, host, src := t.TempDir(), victim(t), sources()
			pod := podWith(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}})
			paths, _, err := volume.SetUp(t.Context(), pod, dir, src)
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(paths["v"].Path, host); err != nil {
				t.Fatal(err)
			}
			src.ConfigMaps["shop/cfg"] = &corev1.ConfigMap{Data: map[string]string{"a": "new"}}
			if _, _, err := volume.SetUp(t.Context(), pod, dir, src); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(paths["v"].Path, "a")); err != nil || string(b) != "new" {
				t.Errorf("a = %q, %v", b, err)
			}
			if err := volume.TearDown(dir); err != nil {
				t.Fatal(err)
			}
			untouched(t, host)
		})
	}
}

func relink(path, target string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

func TestSubPath(t *testing.T) {
	dir, vol, host := t.TempDir(), t.TempDir(), victim(t)
	t.Cleanup(func() { _ = volume.TearDown(dir) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(vol, "d/e"), 0o755))
	must(os.WriteFile(filepath.Join(vol, "d/f"), []byte("F"), 0o644))
	must(os.Symlink("d/f", filepath.Join(vol, "inside")))
	must(os.Symlink("/", filepath.Join(vol, "root")))
	must(os.Symlink("../../../..", filepath.Join(vol, "up")))
	must(os.Symlink(host, filepath.Join(vol, "host")))
	must(os.Symlink("/proc/self/root", filepath.Join(vol, "magic")))

	for i, x := range []struct {
		path string
		ok   bool
	}{
		{"d", true}, {"d/f", true}, {"inside", true}, {"new/deep", true}, {"d/", true},
		{"root", false}, {"root/etc", false}, {"up", false}, {"host", false}, {"host/shadow", false}, {"host/new", false},
		{"magic/etc", false}, {"../x", false}, {"/etc", false}, {"", false}, {"d/../../x", false},
	} {
		got, err := volume.BindSubPath(dir, vol, "v", x.path, "c", i)
		if (err == nil) != x.ok {
			t.Errorf("subPath %q: %v", x.path, err)
		}
		if err != nil && errors.Is(err, errs.Denied) == false && errors.Is(err, errs.Invalid) == false {
			t.Errorf("subPath %q: %v is of no kind", x.path, err)
		}
		if err == nil && x.path == "inside" {
			if b, err := os.ReadFile(got); err != nil || string(b) != "F" {
				t.Errorf("inside = %q, %v", b, err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(host, "new")); err == nil {
		t.Error("a folder was made on the host")
	}
	// The same again, as a container that restarts does; then the other type of file.
	_, err := volume.BindSubPath(dir, vol, "v", "d", "c", 0)
	must(err)
	got, err := volume.BindSubPath(dir, vol, "v", "d/f", "c", 0)
	must(err)
	if b, err := os.ReadFile(got); err != nil || string(b) != "F" {
		t.Errorf("d/f = %q, %v", b, err)
	}
	must(volume.TearDown(dir))
	untouched(t, host)
	if b, err := os.ReadFile(filepath.Join(vol, "d/f")); err != nil || string(b) != "F" {
		t.Errorf("TearDown went through the bind: %q, %v", b, err)
	}
}

// CVE-2021-25741: a link is exchanged for a folder while the subPath is being bound.
func TestSubPathRace(t *testing.T) {
	dir, vol, host := t.TempDir(), t.TempDir(), victim(t)
	t.Cleanup(func() { _ = volume.TearDown(dir) })
	a, b := filepath.Join(vol, "a"), filepath.Join(vol, "b")
	if err := errors.Join(os.Mkdir(a, 0o755), os.Symlink(host, b)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	bound := 0
	for range 300 {
		got, err := volume.BindSubPath(dir, vol, "v", "a", "c", 0)
		if err != nil {
			continue
		}
		bound++
		if _, err := os.Stat(filepath.Join(got, "shadow")); err == nil {
			t.Fatal("the host's folder was bound")
		}
	}
	close(stop)
	wg.Wait()
	if bound == 0 {
		t.Log("the race never left a folder to bind") // still no escape
	}
	untouched(t, host)
}
