// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// CVE-2019-5736: the binary that runs init must not be writable through /proc/self/exe.
func TestOwnBinaryCannotBeOverwritten(t *testing.T) {
	fd, err := selfReadonly()
	must(t, err)
	defer unix.Close(fd)
	w, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(w)
		t.Fatal("it opened for writing")
	}
	if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ETXTBSY) {
		t.Errorf("error %v", err)
	}
	// A process with CAP_SYS_ADMIN that finds the mount must not be able to make it writable again.
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	if err == nil {
		t.Error("the mount could be made writable")
	}
}

// The trick itself: a program whose interpreter is the runtime.
func TestShebangOfTheRuntime(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	sum := func() [32]byte { data, _ := os.ReadFile(self); return sha256.Sum256(data) }
	before := sum()
	f := newFixture(t)
	must(t, os.WriteFile(filepath.Join(f.rootfs, "evil"), []byte("#!/proc/self/exe\n"), 0o755))
	f.spec.Process.Args = []string{"/evil"}
	if pid, err := f.create(); err == nil {
		_ = f.runtime.Start(f.id)
		_ = f.runtime.Kill(f.id, unix.SIGKILL, false)
		wait(t, pid)
	}
	if sum() != before {
		t.Fatal("the binary changed")
	}
}

// CVE-2024-21626: no descriptor leaks in, and no cwd can lead out.
func TestNoDescriptorLeaks(t *testing.T) {
	leak, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0) // not close-on-exec
	must(t, err)
	defer unix.Close(leak)
	f := newFixture(t, "fds")
	out, _ := f.run()
	if got := strings.Fields(out); strings.Join(got, " ") != "0 1 2" {
		t.Errorf("descriptors %v, want 0 1 2", got)
	}
}

func TestCwdOutsideIsRefused(t *testing.T) {
	for fd := 3; fd < 16; fd++ {
		f := newFixture(t, "cwd")
		f.spec.Process.Cwd = "/proc/self/fd/" + strconv.Itoa(fd)
		if pid, err := f.create(); err == nil {
			_ = f.runtime.Delete(f.id, true)
			wait(t, pid)
			t.Errorf("cwd %s was accepted", f.spec.Process.Cwd)
		}
		leftovers(t, f)
	}
	f := newFixture(t, "sleep")
	pid, err := f.create()
	must(t, err)
	must(t, f.runtime.Start(f.id))
	for fd := 3; fd < 16; fd++ {
		p := specs.Process{Args: []string{"/payload", "cwd"}, Cwd: "/proc/self/fd/" + strconv.Itoa(fd)}
		if _, err := f.runtime.Exec(f.id, ExecOptions{Process: p}); err == nil {
			t.Errorf("exec with cwd %s was accepted", p.Cwd)
		}
	}
	must(t, f.runtime.Delete(f.id, true))
	wait(t, pid)
}

// CVE-2025-31133, CVE-2026-41579, CVE-2021-30465: what the image makes of the places we mount on never leads to the host.
func TestSymlinksInTheImageStayInside(t *testing.T) {
	outside := t.TempDir()
	for name, c := range map[string]struct {
		link   map[string]string
		mount  string
		inside string // where the mount must have landed
	}{
		"absolute":         {map[string]string{"data": outside}, "/data", outside},
		"dots":             {map[string]string{"data": "../../../../../.." + outside}, "/data", outside},
		"in the middle":    {map[string]string{"a": outside}, "/a/b", filepath.Join(outside, "b")},
		"dev is a symlink": {map[string]string{"dev": outside}, "/vol", "/vol"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "write", "/"+filepath.Base(c.mount)+"-ok", "x")
			for l, to := range c.link {
				must(t, os.Symlink(to, filepath.Join(f.rootfs, l)))
			}
			must(t, os.MkdirAll(filepath.Join(f.rootfs, outside), 0o755)) // the same path, inside
			f.spec.Mounts = append(f.spec.Mounts, specs.Mount{Destination: c.mount, Type: "tmpfs", Source: "tmpfs", Options: []string{"size=4k"}})
			f.spec.Process.Args = []string{"/payload", "cat", "/proc/self/mountinfo"}
			out, code := f.run()
			if code != 0 || !strings.Contains(out, " "+c.inside+" ") {
				t.Errorf("exit %d, the mount is not at %s:\n%s", code, c.inside, out)
			}
			if entries, _ := os.ReadDir(outside); len(entries) > 0 {
				t.Errorf("the host's directory got %v", entries)
			}
		})
	}
}

// CVE-2019-19921 and its kin: /proc must be procfs in its own place, or nothing starts.
func TestProcAsSymlinkIsRefused(t *testing.T) {
	f := newFixture(t, "sleep")
	must(t, os.Symlink("/elsewhere", filepath.Join(f.rootfs, "proc")))
	must(t, os.Mkdir(filepath.Join(f.rootfs, "elsewhere"), 0o755))
	if _, err := f.create(); !errors.Is(err, errs.Invalid) {
		t.Errorf("error %v, want Invalid", err)
	}
	leftovers(t, f)
}

// CVE-2025-31133: /dev/null of the image is not what masks.
func TestMaskingDoesNotTrustTheImage(t *testing.T) {
	f := newFixture(t, "cat", "/proc/keys")
	var mounts []specs.Mount
	for _, m := range f.spec.Mounts {
		if !strings.HasPrefix(m.Destination, "/dev") {
			mounts = append(mounts, m)
		}
	}
	f.spec.Mounts = mounts // the image's own /dev
	must(t, os.MkdirAll(filepath.Join(f.rootfs, "dev"), 0o755))
	must(t, os.Symlink("/proc/sys/kernel/core_pattern", filepath.Join(f.rootfs, "dev/null")))
	_, err := f.create()
	if !errors.Is(err, errs.Conflict) {
		t.Errorf("error %v, want Conflict: the image holds something else there", err)
	}
	leftovers(t, f)
}

func TestMaskedAndReadonlyPaths(t *testing.T) {
	f := newFixture(t, "cat", "/proc/keys", "/proc/acpi/wakeup")
	if out, _ := f.run(); strings.Contains(out, "keyring") {
		t.Errorf("a masked path shows %q", out)
	}
	f = newFixture(t, "write", "/proc/sys/kernel/shm_rmid_forced", "1")
	if out, code := f.run(); code == 0 || !strings.Contains(out, "read-only") {
		t.Errorf("a read-only path was written: %q", out)
	}
	f = newFixture(t, "write", "/x", "1")
	f.spec.Root.Readonly = true
	if out, code := f.run(); code == 0 || !strings.Contains(out, "read-only") {
		t.Errorf("a read-only root was written: %q", out)
	}
}

// GHSA-c9cp-9c75-9v8c: no inheritable capabilities, no groups beyond those asked for.
func TestNothingIsInherited(t *testing.T) {
	f := newFixture(t, "cat", "/proc/self/status")
	out, _ := f.run()
	for name, want := range map[string]string{"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "Groups": "", "SigIgn": "0000000000000000", "SigBlk": "0000000000000000"} {
		if got := field(out, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if st, err := os.Stat(f.runtime.Root); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the state directory has mode %v", st.Mode())
	}
}

func TestSeccompIsInForce(t *testing.T) {
	for _, nnp := range []bool{true, false} {
		f := newFixture(t, "mkdir", "/forbidden")
		f.spec.Process.NoNewPrivileges = nnp
		errno := uint(unix.ENOTTY)
		f.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}}}
		if out, _ := f.run(); out != unix.ENOTTY.Error() {
			t.Errorf("mkdir says %q", out)
		}
	}
}
