// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/engine/shim"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// build makes the binary as it is released and gives its path.
func build(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "knarr-shim")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const (
	callPause = 34
	callExit  = 60
)

// tiny is an executable of nothing but one system call, so that the program itself costs nothing.
func tiny(t testing.TB, call byte) []byte {
	if runtime.GOARCH != "amd64" {
		t.Skip("the program is written for amd64")
	}
	le := binary.LittleEndian
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	b = le.AppendUint16(b, 2)        // ET_EXEC
	b = le.AppendUint16(b, 62)       // EM_X86_64
	b = le.AppendUint32(b, 1)        //
	b = le.AppendUint64(b, 0x400078) // entry
	b = le.AppendUint64(b, 64)       // program headers
	b = le.AppendUint64(b, 0)        //
	b = le.AppendUint32(b, 0)        //
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // r-x
	for _, v := range []uint64{0, 0x400000, 0x400000, 0x84, 0x84, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, 0x31, 0xff, 0xb8, call, 0, 0, 0, 0x0f, 0x05, 0, 0, 0) // xor edi,edi; mov eax,call; syscall
}

// bench is one machine's worth of directories for the comparison.
type bench struct {
	b                      *testing.B
	dir, rootfs, overlayed string
	layout                 cgroup.Layout
	bin                    string
}

func newBench(b *testing.B) *bench {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	dir := b.TempDir()
	layout, err := cgroup.Detect()
	must(b, err)
	m := &bench{b: b, dir: dir, layout: layout, bin: build(b)}
	for _, d := range []string{"lower/proc", "lower/dev", "lower/sys", "upper", "work", "bundle/rootfs"} {
		must(b, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(b, os.WriteFile(filepath.Join(dir, "lower/true"), tiny(b, callExit), 0o755))
	must(b, os.WriteFile(filepath.Join(dir, "lower/pause"), tiny(b, callPause), 0o755))
	m.rootfs = filepath.Join(dir, "bundle/rootfs")
	m.overlayed = fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir)
	return m
}

func (m *bench) mount()   { must(m.b, unix.Mount("overlay", m.rootfs, "overlay", 0, m.overlayed)) }
func (m *bench) unmount() { must(m.b, unix.Unmount(m.rootfs, unix.MNT_DETACH)) }

func (m *bench) spec(group, program string) {
	caps := []string{"CAP_CHOWN", "CAP_KILL"}
	ns := []specs.LinuxNamespace{}
	for _, t := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.MountNamespace, specs.UTSNamespace, specs.IPCNamespace, specs.NetworkNamespace, specs.CgroupNamespace} {
		ns = append(ns, specs.LinuxNamespace{Type: t})
	}
	s := specs.Spec{Version: "1.0.2", Root: &specs.Root{Path: "rootfs"}, Hostname: "b",
		Process: &specs.Process{Args: []string{program}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc"}, {Destination: "/dev", Type: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}}, {Destination: "/sys", Type: "sysfs", Options: []string{"ro"}}},
		Linux: &specs.Linux{CgroupsPath: group, Namespaces: ns, MaskedPaths: []string{"/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware"}, ReadonlyPaths: []string{"/proc/sys", "/proc/bus"}}}
	data, err := json.Marshal(s)
	must(m.b, err)
	must(m.b, os.WriteFile(filepath.Join(m.dir, "bundle/config.json"), data, 0o600))
}

// bare does the kernel's share alone: cgroup, namespaces, overlay, pivot_root, execution of a static program, and all away again.
func (m *bench) bare(n int) {
	g, err := m.layout.Create(fmt.Sprintf("/knarr-bench-%d-%d", os.Getpid(), n))
	must(m.b, err)
	cgroup.OnThread(func() { err = m.bareThread(g) })
	must(m.b, err)
	must(m.b, g.Delete())
}

func (m *bench) bareThread(g *cgroup.Cgroup) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := g.JoinThread(); err != nil {
		return err
	}
	fd, err := g.UnifiedFD()
	if err != nil {
		return err
	}
	if fd >= 0 {
		defer unix.Close(fd)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, "") },
		func() error { return unix.Mount("overlay", m.rootfs, "overlay", 0, m.overlayed) },
		func() error { return unix.Chdir(m.rootfs) },
		func() error { return unix.PivotRoot(".", ".") },
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	pid, err := syscall.ForkExec("/true", []string{"true"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, UseCgroupFD: fd >= 0, CgroupFD: fd}})
	if err != nil {
		return err
	}
	_, err = unix.Wait4(pid, nil, 0, nil)
	return err
}

// command runs a runtime's command line. There are no pipes: the container inherits the streams, and waiting for their end would be
// waiting for the container's.
func (m *bench) command(runtime string, args ...string) {
	cmd := exec.Command(runtime, append([]string{"--root", filepath.Join(m.dir, "root-"+filepath.Base(runtime))}, args...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		panic(fmt.Sprintf("%s %v: %v", runtime, args, err)) // it may be another goroutine than the benchmark's
	}
}

// cli is create, start, wait and delete by the command line, as containerd or Docker would drive it.
func (m *bench) cli(n int) { m.cliOf(m.bin, "b"+strconv.Itoa(n)) }

func (m *bench) cliOf(runtime, id string) {
	m.spec(fmt.Sprintf("/knarr-bench-%d-%s", os.Getpid(), id), "/true")
	m.mount()
	pidFile := filepath.Join(m.dir, "pid")
	m.command(runtime, "create", "--bundle", filepath.Join(m.dir, "bundle"), "--pid-file", pidFile, id)
	text, err := os.ReadFile(pidFile)
	must(m.b, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(m.b, err)
	pidfd, err := unix.PidfdOpen(pid, 0)
	must(m.b, err)
	m.command(runtime, "start", id)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 5000)
	unix.Close(pidfd)
	m.command(runtime, "delete", id)
	m.unmount()
}

// beside gives a place to run the peer from: crun refuses hybrid cgroups, so it sees no v2 tree. nil when it is not installed.
func (m *bench) beside() (do func(f func()), end func()) {
	work, done := make(chan func()), make(chan struct{})
	ready := make(chan error)
	go cgroup.OnThread(func() {
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
		}
		if err == nil && m.layout.Mode == cgroup.Hybrid {
			err = unix.Unmount(m.layout.Unified, unix.MNT_DETACH)
		}
		ready <- err
		for f := range work {
			f()
			done <- struct{}{}
		}
	})
	must(m.b, <-ready)
	return func(f func()) { work <- f; <-done }, func() { close(work) }
}

// monitor is the same by the way of the engine: Launch, Start, Wait, Shutdown.
func (m *bench) monitor(n int) {
	ctx := context.Background()
	id := "m" + strconv.Itoa(n)
	m.spec(fmt.Sprintf("/knarr-bench-%d-%s", os.Getpid(), id), "/true")
	run := filepath.Join(m.dir, id)
	must(m.b, os.Mkdir(run, 0o700))
	m.mount()
	c, err := shim.Launch{Binary: m.bin, ID: id, Dir: run, Bundle: filepath.Join(m.dir, "bundle"), Log: shim.Log{Path: filepath.Join(m.dir, "log")}}.Start(ctx)
	must(m.b, err)
	must(m.b, c.Start(ctx))
	e, err := c.Wait(ctx)
	must(m.b, err)
	if e.Code != 0 {
		m.b.Fatalf("exit %+v", e)
	}
	must(m.b, c.Shutdown(ctx))
	m.unmount()
	must(m.b, os.RemoveAll(run))
}

// BenchmarkCreateStartWaitDelete prints medians, in ms, and how many times the bare kernel work they are, and crun's where that is
// installed. They take turns, so that whatever else the machine does meets all.
func BenchmarkCreateStartWaitDelete(b *testing.B) {
	m := newBench(b)
	// As the subreaper of what the command line leaves, the benchmark must not collect zombies.
	must(b, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0))
	ways := map[string]func(int){"bare": m.bare, "cli": m.cli, "monitor": m.monitor}
	if crun, err := exec.LookPath("crun"); err == nil {
		do, end := m.beside()
		defer end()
		ways["crun"] = func(n int) { do(func() { m.cliOf(crun, "c"+strconv.Itoa(n)) }) }
	}
	m.race(ways)
}

// race runs the ways in turn and reports their medians and ratios.
func (m *bench) race(ways map[string]func(int)) {
	took := map[string][]time.Duration{}
	for n := range max(m.b.N, 30) {
		for name, f := range ways {
			start := time.Now()
			f(n)
			took[name] = append(took[name], time.Since(start))
		}
	}
	median := func(name string) float64 {
		slices.Sort(took[name])
		return took[name][len(took[name])/2].Seconds() * 1000
	}
	m.b.ReportMetric(0, "ns/op")
	for name := range ways {
		m.b.ReportMetric(median(name), name+"-ms")
		for _, to := range []string{"bare", "crun"} {
			if ways[to] != nil && name != to && name != "bare" {
				m.b.ReportMetric(median(name)/median(to), name+"/"+to)
			}
		}
	}
}

// BenchmarkExec is one more process in a running container, by the command line.
func BenchmarkExec(b *testing.B) {
	m := newBench(b)
	process := filepath.Join(m.dir, "process.json")
	must(b, os.WriteFile(process, []byte(`{"args":["/true"],"cwd":"/"}`), 0o600))
	m.mount()
	defer m.unmount()
	run := func(runtime, id string) func(int) {
		m.spec(fmt.Sprintf("/knarr-bench-%d-%s", os.Getpid(), id), "/pause")
		m.command(runtime, "run", "--detach", "--bundle", filepath.Join(m.dir, "bundle"), id)
		return func(int) { m.command(runtime, "exec", "--process", process, id) }
	}
	ways := map[string]func(int){"exec": run(m.bin, "e")}
	defer m.command(m.bin, "delete", "--force", "e")
	if crun, err := exec.LookPath("crun"); err == nil {
		do, end := m.beside()
		defer end()
		var exec func(int)
		do(func() { exec = run(crun, "x") })
		defer do(func() { m.command(crun, "delete", "--force", "x") })
		ways["crun"] = func(n int) { do(func() { exec(n) }) }
	}
	m.race(ways)
}
