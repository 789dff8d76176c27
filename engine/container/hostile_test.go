// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

func symlink(name, to string) tarFile {
	return tarFile{name: name, link: to, kind: tar.TypeSymlink, mode: 0o777}
}

// CVE-2018-15664 and kin: links of the container, in the path and in the tar, never lead copies to the host.
func TestCopyNeverLeavesTheContainer(t *testing.T) {
	w := newWorld(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := "../../../../../../../../../.."
	w.image("links", image.ContainerConfig{}, dirEntry("etc"), symlink("abs", "/"), symlink("up", up), symlink("file", secret), symlink("host", filepath.Dir(secret)))
	c := w.create(Spec{Image: "links"})
	for _, p := range []string{"/abs" + secret, "/up" + secret, "/host/secret", "/proc/self/root" + secret, "/../../.." + secret} {
		var out bytes.Buffer
		if err := w.CopyFrom(w.ctx(), c.ID, p, &out); !errors.Is(err, errs.NotFound) || bytes.Contains(out.Bytes(), []byte("host")) {
			t.Errorf("copy from %s: %v, %d bytes", p, err, out.Len())
		}
	}
	evil := tarOf(t, tarFile{name: "../../../../../../../../.." + secret, body: "owned", mode: 0o644}, symlink("x", filepath.Dir(secret)), tarFile{name: "x/secret", body: "owned", mode: 0o644},
		tarFile{name: "/abs" + secret, body: "owned", mode: 0o644})
	for _, p := range []string{"/", "/abs", "/up", "/host"} {
		_ = w.CopyTo(w.ctx(), c.ID, p, bytes.NewReader(evil), CopyToOptions{}) // refused or inside: either will do
	}
	if got, _ := os.ReadFile(secret); string(got) != "host" {
		t.Errorf("the host's file now has %q", got)
	}
	if left, _ := filepath.Glob(filepath.Dir(secret) + "/*"); len(left) != 1 {
		t.Errorf("new files on the host: %v", left)
	}
}

func tarOf(t *testing.T, files ...tarFile) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body)), Typeflag: f.kind, Linkname: f.link, Uid: f.uid, Gid: f.uid}
		if f.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(f.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestCopyInAndOut(t *testing.T) {
	w := newWorld(t)
	w.image("dirs", image.ContainerConfig{}, dirEntry("d"), tarFile{name: "d/a", body: "A", mode: 0o640}, symlink("l", "d"))
	host := t.TempDir()
	for _, started := range []bool{false, true} {
		c := w.create(Spec{Image: "dirs", Cmd: []string{"wait"}, Mounts: []Mount{{Type: "bind", Source: host, Target: "/m"}}})
		if started {
			if err := w.Start(w.ctx(), c.ID); err != nil {
				t.Fatal(err)
			}
		}
		in := tarOf(t, tarFile{name: "in", body: "IN", mode: 0o600, uid: 12})
		for _, to := range []string{"/d", "/m"} {
			if err := w.CopyTo(w.ctx(), c.ID, to, bytes.NewReader(in), CopyToOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if got, _ := os.ReadFile(filepath.Join(host, "in")); string(got) != "IN" {
			t.Errorf("started %v: a copy into a mount gave the host %q", started, got)
		}
		for from, want := range map[string]string{"/d": "d/ d/a d/in", "/d/.": "./ ./a ./in", "/d/a": "a", "/l": "l", "/l/": "l/ l/a l/in", "/m/in": "in"} {
			if got := listing(t, w, c.ID, from); got != want {
				t.Errorf("started %v: %s: %q, want %q", started, from, got, want)
			}
		}
		if st, err := w.StatPath(w.ctx(), c.ID, "/l"); err != nil || st.LinkTarget != "/d" || st.Name != "l" {
			t.Errorf("stat: %+v %v", st, err)
		}
		if _, err := w.StatPath(w.ctx(), c.ID, "/none"); !errors.Is(err, errs.NotFound) {
			t.Errorf("stat of a missing path: %v", err)
		}
		if err := w.CopyTo(w.ctx(), c.ID, "/d/a", bytes.NewReader(in), CopyToOptions{}); !errors.Is(err, errs.Invalid) {
			t.Errorf("copy onto a file: %v", err)
		}
		var all bytes.Buffer
		if err := w.Export(w.ctx(), c.ID, &all); err != nil || !bytes.Contains(all.Bytes(), []byte("d/in")) || bytes.Contains(all.Bytes(), []byte("m/in")) {
			t.Errorf("export: %v", err)
		}
	}
}

func listing(t *testing.T, w *world, ref, from string) string {
	t.Helper()
	var out bytes.Buffer
	if err := w.CopyFrom(w.ctx(), ref, from, &out); err != nil {
		t.Error(err)
	}
	var names []string
	for tr := tar.NewReader(&out); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(names, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestImageCannotPointMountsElsewhere(t *testing.T) {
	w := newWorld(t)
	outside := t.TempDir()
	w.image("trap", image.ContainerConfig{ImageConfig: ociVolumes("/../../../../..//vol", "/link/x")}, symlink("link", outside), symlink("etc", outside), symlink("dev", outside))
	c, err := w.Create(w.ctx(), Spec{Image: "trap", Cmd: []string{"echo", "hi"}})
	if err == nil {
		err = w.Start(w.ctx(), c.ID) // refused or not: nothing may be made outside
	}
	if left, _ := filepath.Glob(outside + "/*"); len(left) > 0 {
		t.Errorf("made on the host: %v (%v)", left, err)
	}
}

func TestBuildStepRunsAndLeavesNothing(t *testing.T) {
	w := newWorld(t)
	img, err := w.cfg.Images.Get("payload")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.cfg.Images.Prepare(w.ctx(), "step-1", img, image.InitFiles{}); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(w.dir, "step-root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.cfg.Images.Mount("step-1", root); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(w.cfg.Images.Unmount(root), w.cfg.Images.RemoveSnapshot("step-1")); err != nil {
			t.Error(err)
		}
	}()
	run := func(args ...string) (int, string, error) {
		var out bytes.Buffer
		code, err := w.BuildRunner().Run(w.ctx(), build.RunStep{Key: "step-1", Rootfs: root, Args: append([]string{"/payload"}, args...), Dir: "/", Hostname: "buildhost", Stdout: &out, Stderr: &out})
		return code, out.String(), err
	}
	if code, out, err := run("host"); code != 0 || out != "buildhost\n" || err != nil {
		t.Errorf("%d %q %v", code, out, err)
	}
	if code, out, err := run("exit", "6"); code != 6 || err != nil {
		t.Errorf("%d %q %v", code, out, err)
	}
	if code, out, err := run("addrs"); code != 0 || !strings.Contains(out, "eth0") {
		t.Errorf("%d %q %v", code, out, err)
	}
	if code, _, err := run("write", "/made", "x"); code != 0 || err != nil {
		t.Error(code, err)
	}
	changes, err := w.cfg.Images.Changes("step-1")
	if err != nil || len(changes) != 1 || changes[0].Path != "/made" {
		t.Errorf("the layer would hold %v, %v", changes, err)
	}
	if p := w.Check(w.ctx()); len(p) > 0 {
		t.Error(p)
	}
}
