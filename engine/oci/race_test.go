// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// flip exchanges two names as fast as it can until the test ends.
func flip(t *testing.T, a, b string) (stop func() int) {
	t.Helper()
	end, done, count := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) == nil {
					count++
				}
			}
		}
	}()
	return func() int { close(end); <-done; return count }
}

// startsWhile creates containers for a second while something in their file system changes, and hands each that came about, and its output.
func startsWhile(t *testing.T, make func() *fixture, check func(f *fixture, out string)) (tries int) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < time.Second || tries < 5; tries++ {
		f := make()
		pid, err := f.create()
		if err != nil {
			leftovers(t, f)
			continue // refused, which is as good
		}
		must(t, f.runtime.Start(f.id))
		wait(t, pid)
		must(t, f.runtime.Delete(f.id, true))
		check(f, f.output())
	}
	return tries
}

// victim is a directory of the host that nothing may reach, with a file in it.
func victim(t *testing.T) (dir string, untouched func()) {
	dir = t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("mine"), 0o600))
	return dir, func() {
		t.Helper()
		entries, err := os.ReadDir(dir)
		must(t, err)
		data, err := os.ReadFile(file)
		st, statErr := os.Stat(file)
		if len(entries) != 1 || err != nil || string(data) != "mine" || statErr != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("the host's directory holds %v, its file %q, %v %v", entries, data, err, statErr)
		}
		table, _ := os.ReadFile("/proc/self/mountinfo")
		if bytes.Contains(table, []byte(dir)) {
			t.Error("something is mounted on the host's directory")
		}
	}
}

// CVE-2021-30465: a mount's target is exchanged for a symlink to the host by another container that shares the volume.
func TestRaceOnMountTarget(t *testing.T) {
	outside, untouched := victim(t)
	shared := t.TempDir()
	must(t, os.Mkdir(filepath.Join(shared, "dir"), 0o755))
	must(t, os.Symlink("../../../../../../../../.."+outside, filepath.Join(shared, "link")))
	stop := flip(t, filepath.Join(shared, "dir"), filepath.Join(shared, "link"))
	startsWhile(t, func() *fixture {
		f := newFixture(t, "cat", "/proc/self/mountinfo")
		f.spec.Mounts = append(f.spec.Mounts, specs.Mount{Destination: "/vol", Source: shared, Options: []string{"rbind"}},
			specs.Mount{Destination: "/vol/dir/deep", Type: "tmpfs", Source: "tmpfs"},
			specs.Mount{Destination: "/vol/dir", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=4k", "tmpcopyup"}})
		return f
	}, func(f *fixture, out string) {
		if !strings.Contains(out, " / / ") && !strings.Contains(out, " /vol ") {
			t.Errorf("mounts: %s", out)
		}
		untouched()
	})
	if stop() == 0 {
		t.Error("nothing was exchanged")
	}
	untouched()
}

// CVE-2025-31133: the image's /dev/null becomes a symlink to a file of the host while paths are masked.
func TestRaceOnNull(t *testing.T) {
	outside, untouched := victim(t)
	dev := t.TempDir()
	must(t, unix.Mknod(filepath.Join(dev, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.Symlink(filepath.Join(outside, "file"), filepath.Join(dev, "evil")))
	stop := flip(t, filepath.Join(dev, "null"), filepath.Join(dev, "evil"))
	startsWhile(t, func() *fixture {
		f := newFixture(t, "cat", "/proc/keys", "/proc/self/mountinfo")
		for i, m := range f.spec.Mounts {
			if m.Destination == "/dev" { // shared with the one who exchanges
				f.spec.Mounts[i] = specs.Mount{Destination: "/dev", Source: dev, Options: []string{"rbind"}}
			}
		}
		return f
	}, func(f *fixture, out string) {
		if !strings.Contains(out, " /null /proc/keys ") || strings.Contains(out, "keyring") {
			t.Errorf("/proc/keys is not masked by the host's null device: %s", out)
		}
		untouched()
	})
	if stop() == 0 {
		t.Error("nothing was exchanged")
	}
	untouched()
}

// CVE-2025-52565: /dev/console, or the devpts it comes from, is exchanged while the terminal is made.
func TestRaceOnConsole(t *testing.T) {
	outside, untouched := victim(t)
	dev := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dev, "console"), nil, 0o600))
	must(t, os.Symlink(filepath.Join(outside, "file"), filepath.Join(dev, "evil")))
	must(t, os.Mkdir(filepath.Join(dev, "pts"), 0o755))
	stop := flip(t, filepath.Join(dev, "console"), filepath.Join(dev, "evil"))
	startsWhile(t, func() *fixture {
		f := newFixture(t, "cat", "/proc/self/mountinfo")
		f.spec.Process.Terminal = true
		for i, m := range f.spec.Mounts {
			if m.Destination == "/dev" {
				f.spec.Mounts[i] = specs.Mount{Destination: "/dev", Source: dev, Options: []string{"rbind"}}
			}
		}
		ours, theirs, err := socketpair()
		must(t, err)
		t.Cleanup(func() { ours.Close(); theirs.Close() })
		f.console = theirs
		return f
	}, func(*fixture, string) { untouched() })
	if stop() == 0 {
		t.Error("nothing was exchanged")
	}
	untouched()
}

// CVE-2022-0811: neither a sysctl's name nor its value may bring another along.
func TestSysctlInjection(t *testing.T) {
	for key, value := range map[string]string{
		"kernel.shm_rmid_forced": "1\nkernel.core_pattern=|/x", "kernel.shm_rmid_forced+kernel.core_pattern": "1", "kernel.core_pattern": "x",
		"net.ipv4.../../kernel/core_pattern": "x", "net/../kernel/core_pattern": "x", "kernel.shmmax\x00": "1", "net.ipv4.ip_forward": "1\x00",
	} {
		s := sample()
		s.Linux.Sysctl = map[string]string{key: value}
		if _, err := Steps(s, Facts{Rootfs: "/r", CgroupV2: "/sys/fs/cgroup", CgroupPath: "/k"}); err == nil {
			t.Errorf("%q = %q was accepted", key, value)
		}
	}
}

// A filter may deny what the runtime itself needs up to the last moment: it comes on after that.
func TestFilterComesLast(t *testing.T) {
	for _, nnp := range []bool{true, false} {
		f := newFixture(t, "cat", "/proc/self/status")
		f.spec.Process.NoNewPrivileges = nnp
		f.spec.Process.User.UID = 1000
		f.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"getcwd", "chdir", "setresuid", "setgroups", "accept4", "sendmsg", "faccessat", "unshare"}, Action: specs.ActErrno}}}
		out, code := f.run()
		if code != 0 || field(out, "Seccomp") != "2" || field(out, "CapPrm") != "0000000000000000" && field(out, "CapEff") != "0000000000000000" {
			t.Errorf("no_new_privs %v: exit %d: %s", nnp, code, out)
		}
	}
}
