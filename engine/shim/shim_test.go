// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knarr/knarr/engine/oci"
	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The test binary is the daemon, the monitor, the runtime's init and the container's program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch {
		case os.Args[1] == "init":
			oci.Init(os.Args[2:])
		case os.Args[1] == "monitor":
			os.Exit(Monitor())
		case os.Args[1] == "daemon":
			os.Exit(shortDaemon(os.Args[2]))
		case filepath.Base(os.Args[0]) == "payload":
			os.Exit(payload(os.Args[1:]))
		}
	}
	os.Exit(m.Run())
}

func payload(args []string) int {
	switch args[0] {
	case "exit":
		n, _ := strconv.Atoi(args[1])
		return n
	case "sleep":
		time.Sleep(time.Minute) //house:allow time.Sleep: the payload is a process that sleeps
	case "say":
		fmt.Print(args[1])
		fmt.Fprint(os.Stderr, args[2])
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "flood":
		n, _ := strconv.Atoi(args[1])
		line := strings.Repeat("x", 99) + "\n"
		for range n {
			fmt.Print(line)
		}
	case "orphan":
		// A grandchild whose parent ends at once is the init's, or with the host's pid namespace the monitor's, to reap.
		_, _ = syscall.ForkExec("/payload", []string{"payload", "sleep"}, &syscall.ProcAttr{Env: []string{}})
	case "eat": // in a child, so that the container itself lives on
		pid, err := syscall.ForkExec("/payload", []string{"payload", "fill"}, &syscall.ProcAttr{Env: []string{}})
		if err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		fmt.Println(err)
		_, _ = os.Stdin.Read(make([]byte, 1))
		var all [][]byte
		for range 64 {
			all = append(all, bytes.Repeat([]byte{1}, 4<<20))
		}
		return len(all)
	case "fill":
		var all [][]byte
		for range 64 {
			all = append(all, bytes.Repeat([]byte{1}, 4<<20))
		}
		return len(all)
	case "size":
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		fmt.Println(ws.Col, ws.Row, err)
		_, _ = os.Stdin.Read(make([]byte, 1))
		ws, err = unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		fmt.Println(ws.Col, ws.Row, err)
	}
	return 0
}

// shortDaemon launches a container as described in the file and dies without a word.
func shortDaemon(file string) int {
	data, err := os.ReadFile(file)
	if err != nil {
		return 1
	}
	var l Launch
	if err := json.Unmarshal(data, &l); err != nil {
		return 1
	}
	c, err := l.Start(context.Background())
	if err == nil {
		err = c.Start(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	return 1
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// launch makes a bundle of the test binary.
func launch(t testing.TB, args ...string) Launch {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	l := Launch{ID: fmt.Sprintf("t%x", rand.Uint64()), Dir: filepath.Join(dir, "run"), Bundle: filepath.Join(dir, "bundle")}
	l.Log.Path = filepath.Join(dir, "log")
	must(t, os.Mkdir(l.Dir, 0o700))
	must(t, os.MkdirAll(filepath.Join(l.Bundle, "rootfs"), 0o755))
	self, err := os.Executable()
	must(t, err)
	l.Binary = self
	spec := specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: append([]string{"/payload"}, args...), Cwd: "/"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}},
			{Destination: "/payload", Type: "bind", Source: self, Options: []string{"bind", "ro"}},
		},
		Linux: &specs.Linux{CgroupsPath: "/knarr-test-" + l.ID, Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace},
			{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}}},
	}
	write(t, l, spec)
	t.Cleanup(func() {
		if c, err := Dial(context.Background(), l.Dir); err == nil {
			_ = c.SignalAll(context.Background(), unix.SIGKILL)
			_, _ = c.Wait(context.Background())
			_ = c.Shutdown(context.Background())
		}
		_ = Clean(l.Dir, l.ID)
	})
	return l
}

func write(t testing.TB, l Launch, spec specs.Spec) {
	t.Helper()
	data, err := json.Marshal(spec)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(l.Bundle, "config.json"), data, 0o600))
}

func edit(t testing.TB, l Launch, change func(*specs.Spec)) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(l.Bundle, "config.json"))
	must(t, err)
	var spec specs.Spec
	must(t, json.Unmarshal(data, &spec))
	change(&spec)
	write(t, l, spec)
}

func start(t testing.TB, l Launch) *Client {
	t.Helper()
	c, err := l.Start(t.Context())
	must(t, err)
	return c
}

func TestFromLaunchToShutdown(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "exit", "3")
	c := start(t, l)
	if err := c.Shutdown(ctx); !errors.Is(err, errs.Conflict) {
		t.Errorf("shutdown before the exit: %v, want Conflict", err)
	}
	if _, ok, err := ReadExit(l.Dir); ok || err != nil {
		t.Errorf("an exit record before the exit: %v %v", ok, err)
	}
	must(t, c.Start(ctx))
	for range 2 {
		e, err := c.Wait(ctx)
		must(t, err)
		if e.Code != 3 || e.Signal != 0 || e.OOMKilled || !e.ExitedAt.After(e.StartedAt) || e.StartedAt.IsZero() {
			t.Errorf("exit %+v", e)
		}
		onDisk, ok, err := ReadExit(l.Dir)
		if !ok || err != nil || onDisk != e {
			t.Errorf("the record says %+v, %v, %v", onDisk, ok, err)
		}
	}
	if err := c.Signal(ctx, unix.SIGTERM); !errors.Is(err, errs.Gone) {
		t.Errorf("signal after the exit: %v, want Gone", err)
	}
	must(t, c.Shutdown(ctx))
	must(t, c.Shutdown(ctx))
	if _, err := Dial(ctx, l.Dir); !errors.Is(err, errs.NotFound) {
		t.Errorf("dial after shutdown: %v, want NotFound", err)
	}
	entries, _ := os.ReadDir(l.Dir)
	if len(entries) != 1 || entries[0].Name() != exitFile {
		t.Errorf("left %v, want only the exit record", entries)
	}
	if found, _ := filepath.Glob("/sys/fs/cgroup/*/knarr-test-" + l.ID); len(found) > 0 {
		t.Errorf("cgroups are left: %v", found)
	}
}

func TestLaunchErrorsKeepTextAndKind(t *testing.T) {
	l := launch(t)
	edit(t, l, func(s *specs.Spec) { s.Process.Args = []string{"foo"} })
	_, err := l.Start(t.Context())
	if !errors.Is(err, errs.NotFound) || err.Error() != `exec: "foo": executable file not found in $PATH` {
		t.Errorf("error %v (%v)", err, errs.Kind(err))
	}
	if entries, _ := os.ReadDir(l.Dir); len(entries) > 0 {
		t.Errorf("left %v", entries)
	}
}

func TestLogKeepsStreamsLinesAndParts(t *testing.T) {
	l := launch(t, "say", "one\ntwo\nrest", "bad\n")
	c := start(t, l)
	must(t, c.Start(t.Context()))
	_, err := c.Wait(t.Context())
	must(t, err)
	text, err := os.ReadFile(l.Log.Path)
	must(t, err)
	var got []string
	for line := range strings.Lines(string(text)) {
		stamp, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(rest, "stdout") {
			got = append(got, rest)
		}
	}
	if want := "stdout F one|stdout F two|stdout P rest"; strings.Join(got, "|") != want {
		t.Errorf("log %q, want %q", strings.Join(got, "|"), want)
	}
	if !strings.Contains(string(text), " stderr F bad\n") {
		t.Errorf("stderr is missing: %s", text)
	}
}

func TestLogRotates(t *testing.T) {
	l := launch(t, "flood", "1000")
	l.Log.MaxBytes, l.Log.MaxFiles = 20_000, 3
	c := start(t, l)
	must(t, c.Start(t.Context()))
	_, err := c.Wait(t.Context())
	must(t, err)
	files, _ := filepath.Glob(l.Log.Path + "*")
	if len(files) != 3 {
		t.Errorf("files %v, want 3", files)
	}
	for _, f := range files {
		text, _ := os.ReadFile(f)
		if len(text) > 60_000 || len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
			t.Errorf("%s has %d bytes", f, len(text))
		}
	}
}

func TestSeveralAttachAndStdin(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "cat")
	l.Stdin = true
	c := start(t, l)
	one, err := c.Attach(ctx, AttachOptions{Stdin: true, Stdout: true, StdinOnce: true})
	must(t, err)
	defer one.Close()
	two, err := c.Attach(ctx, AttachOptions{Stdout: true, Stderr: true})
	must(t, err)
	defer two.Close()
	must(t, c.Start(ctx))
	_, err = one.Stdin.Write([]byte("hello\n"))
	must(t, err)
	must(t, one.Stdin.Close())
	for _, s := range []*Streams{one, two} {
		if got, err := io.ReadAll(s.Stdout); err != nil || string(got) != "hello\n" {
			t.Errorf("read %q, %v", got, err)
		}
	}
	e, err := c.Wait(ctx)
	if err != nil || e.Code != 0 {
		t.Errorf("exit %+v, %v", e, err)
	}
}

func TestAttachedReaderThatLeavesDoesNotStopTheContainer(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "flood", "20000")
	c := start(t, l)
	s, err := c.Attach(ctx, AttachOptions{Stdout: true})
	must(t, err)
	must(t, c.Start(ctx))
	_, err = s.Stdout.Read(make([]byte, 10))
	must(t, err)
	must(t, s.Close())
	e, err := c.Wait(ctx)
	if err != nil || e.Code != 0 {
		t.Errorf("exit %+v, %v", e, err)
	}
}

func TestExecStreamsAndExit(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "sleep")
	c := start(t, l)
	must(t, c.Start(ctx))
	p, err := c.Exec(ctx, Exec{ID: "e1", Stdin: true, Process: specs.Process{Args: []string{"/payload", "cat"}, Cwd: "/"}})
	must(t, err)
	if _, err := c.Exec(ctx, Exec{ID: "e1", Process: specs.Process{Args: []string{"/payload", "cat"}, Cwd: "/"}}); !errors.Is(err, errs.Exists) {
		t.Errorf("the same id again: %v, want Exists", err)
	}
	big := bytes.Repeat([]byte("0123456789"), 100_000)
	go func() {
		_, _ = p.Stdin.Write(big)
		p.Stdin.Close()
	}()
	got, err := io.ReadAll(p.Stdout)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("read %d bytes of %d, %v", len(got), len(big), err)
	}
	if e, err := p.Wait(ctx); err != nil || e.Code != 0 {
		t.Errorf("exit %+v, %v", e, err)
	}
	p, err = c.Exec(ctx, Exec{ID: "e2", Process: specs.Process{Args: []string{"/payload", "sleep"}, Cwd: "/"}})
	must(t, err)
	must(t, p.Signal(ctx, unix.SIGTERM))
	if e, err := p.Wait(ctx); err != nil || e.Code != 143 || e.Signal != 15 {
		t.Errorf("exit %+v, %v", e, err)
	}
	_, err = c.Exec(ctx, Exec{ID: "e3", Process: specs.Process{Args: []string{"nope"}, Cwd: "/"}})
	if !errors.Is(err, errs.NotFound) {
		t.Errorf("a missing program: %v", err)
	}
	must(t, c.SignalAll(ctx, unix.SIGKILL))
	if e, err := c.Wait(ctx); err != nil || e.Code != 137 || e.Signal != 9 {
		t.Errorf("exit %+v, %v", e, err)
	}
}

func TestTerminalAndResize(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "size")
	l.Terminal, l.Stdin = true, true
	edit(t, l, func(s *specs.Spec) {
		s.Process.Terminal = true
		s.Process.ConsoleSize = &specs.Box{Width: 80, Height: 24}
	})
	c := start(t, l)
	s, err := c.Attach(ctx, AttachOptions{Stdin: true, Stdout: true})
	must(t, err)
	defer s.Close()
	must(t, c.Start(ctx))
	expect := func(want string) {
		t.Helper()
		var got []byte
		buf := make([]byte, 100)
		for !strings.Contains(string(got), want) {
			n, err := s.Stdout.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				t.Fatalf("read %q, %v; want %q", got, err, want)
			}
		}
	}
	expect("80 24 <nil>")
	must(t, c.Resize(ctx, "", 100, 30))
	_, err = s.Stdin.Write([]byte("\n"))
	must(t, err)
	expect("100 30 <nil>")
	if e, err := c.Wait(ctx); err != nil || e.Code != 0 {
		t.Errorf("exit %+v, %v", e, err)
	}
}

func TestExecTerminal(t *testing.T) {
	ctx := t.Context()
	c := start(t, launch(t, "sleep"))
	must(t, c.Start(ctx))
	p, err := c.Exec(ctx, Exec{ID: "tty", Stdin: true, Process: specs.Process{Args: []string{"/payload", "size"}, Cwd: "/", Terminal: true}})
	must(t, err)
	must(t, p.Resize(ctx, 90, 20))
	_, err = p.Stdin.Write([]byte("\n"))
	must(t, err)
	out, err := io.ReadAll(p.Stdout)
	if err != nil || !strings.Contains(string(out), "90 20 <nil>") {
		t.Errorf("read %q, %v", out, err)
	}
	if e, err := p.Wait(ctx); err != nil || e.Code != 0 {
		t.Errorf("exit %+v, %v", e, err)
	}
}

// The daemon dies by SIGKILL; monitor and container go on, and a new daemon takes them over.
func TestMonitorSurvivesItsParent(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "sleep")
	data, err := json.Marshal(l)
	must(t, err)
	file := filepath.Join(t.TempDir(), "launch.json")
	must(t, os.WriteFile(file, data, 0o600))
	out, err := exec.Command(l.Binary, "daemon", file).CombinedOutput()
	if err == nil || len(out) > 0 {
		t.Fatalf("the daemon said %s, %v", out, err)
	}
	c, err := Dial(ctx, l.Dir)
	must(t, err)
	if err := unix.Kill(c.Pid(), 0); err != nil {
		t.Fatalf("the container is gone: %v", err)
	}
	must(t, c.Signal(ctx, unix.SIGKILL))
	if e, err := c.Wait(ctx); err != nil || e.Code != 137 {
		t.Errorf("exit %+v, %v", e, err)
	}
	must(t, c.Shutdown(ctx))
}

// Nobody is there when the container ends: the record is written and the monitor leaves by itself.
func TestExitWhileNobodyWatches(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "sleep")
	c := start(t, l)
	must(t, c.Start(ctx))
	pid := c.Pid()
	monitor := monitorPid(t, l)
	pidfd, err := unix.PidfdOpen(monitor, 0)
	must(t, err)
	defer unix.Close(pidfd)
	must(t, c.Close())
	must(t, unix.Kill(pid, unix.SIGKILL))
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 5000); n != 1 {
		t.Fatalf("the monitor stays: %v", err)
	}
	if e, ok, err := ReadExit(l.Dir); err != nil || !ok || e.Code != 137 {
		t.Errorf("record %+v, %v, %v", e, ok, err)
	}
	if found, _ := filepath.Glob("/sys/fs/cgroup/*/knarr-test-" + l.ID); len(found) > 0 {
		t.Errorf("cgroups are left: %v", found)
	}
}

func monitorPid(t testing.TB, l Launch) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(l.Dir, pidFile))
	must(t, err)
	var p struct{ Pid int }
	must(t, json.Unmarshal(data, &p))
	return p.Pid
}

func TestCleanAfterAKilledMonitor(t *testing.T) {
	l := launch(t, "sleep")
	c := start(t, l)
	must(t, c.Start(t.Context()))
	must(t, unix.Kill(monitorPid(t, l), unix.SIGKILL))
	if _, err := c.Wait(t.Context()); !errors.Is(err, errs.Gone) {
		t.Errorf("wait: %v, want Gone", err)
	}
	if _, err := Dial(t.Context(), l.Dir); !errors.Is(err, errs.NotFound) {
		t.Errorf("dial: %v, want NotFound", err)
	}
	must(t, Clean(l.Dir, l.ID))
	must(t, Clean(l.Dir, l.ID))
	if found, _ := filepath.Glob("/sys/fs/cgroup/*/knarr-test-" + l.ID); len(found) > 0 {
		t.Errorf("cgroups are left: %v", found)
	}
}

func TestMonitorHoldsNothingOfItsParent(t *testing.T) {
	leak, err := os.Open("/")
	must(t, err)
	defer leak.Close()
	_, err = unix.FcntlInt(leak.Fd(), unix.F_SETFD, 0) // not close-on-exec
	must(t, err)
	l := launch(t, "sleep")
	c := start(t, l)
	defer c.Close()
	pid := monitorPid(t, l)
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	must(t, err)
	for _, link := range links {
		if to, _ := os.Readlink(link); to == "/" {
			t.Errorf("%s is the parent's", link)
		}
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v; want its own, %d", sid, err, pid)
	}
}

func TestStraysAreReaped(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "orphan")
	edit(t, l, func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }) // the host's pid namespace
	c := start(t, l)
	must(t, c.Start(ctx))
	e, err := c.Wait(ctx) // within drainPatience, although the orphan holds the streams
	if err != nil || e.Code != 0 {
		t.Fatalf("exit %+v, %v", e, err)
	}
	must(t, c.Shutdown(ctx))
}

func TestManyAttachesLeaveNothing(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "sleep")
	c := start(t, l)
	must(t, c.Start(ctx))
	count := func() int {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", monitorPid(t, l)))
		return len(links)
	}
	before := count()
	for range 300 {
		s, err := c.Attach(ctx, AttachOptions{Stdout: true, Stderr: true})
		must(t, err)
		must(t, s.Close())
	}
	for deadline := time.Now().Add(5 * time.Second); count() > before+2; {
		if time.Now().After(deadline) {
			t.Fatalf("the monitor has %d descriptors, %d before", count(), before)
		}
		_, _ = unix.Poll(nil, 10)
	}
}

// Each kill for want of memory is told while the container lives, with the name of the process, and the last one is in the record.
func TestMemoryRunsOut(t *testing.T) {
	ctx := t.Context()
	l := launch(t, "eat")
	l.Stdin = true
	limit := int64(32 << 20)
	edit(t, l, func(s *specs.Spec) {
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}
	})
	c := start(t, l)
	seen := make(chan OOM, 8)
	exited := make(chan Exit, 1)
	must(t, c.Start(ctx))
	go func() {
		e, err := c.Watch(ctx, 0, func(o OOM) { seen <- o })
		if err != nil {
			t.Error(err)
		}
		exited <- e
	}()
	first := <-seen
	if first.Seq != 1 || first.Pid == c.Pid() || first.Name != "payload" && first.Name != "" {
		t.Errorf("told %+v", first)
	}
	must(t, c.CloseStdin(ctx)) // now init does the same itself
	e := <-exited
	if !e.OOMKilled || e.Code != 137 || e.OOM == nil || e.OOM.Seq < 2 || e.OOM.Name != first.Name || first.Name != "" && e.OOM.Pid != c.Pid() {
		t.Errorf("exit %+v, %+v", e, e.OOM)
	}
	// Whoever comes later learns the same; who has seen one does not see it again.
	count := 0
	if again, err := c.Watch(ctx, first.Seq, func(o OOM) { count++ }); err != nil || again.OOM.Seq != e.OOM.Seq || count != e.OOM.Seq-1 {
		t.Errorf("again %+v, %v, told %d", again.OOM, err, count)
	}
}
