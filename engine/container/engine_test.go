// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/internal/errs"
)

func TestRunAnswersOutputAndExitCode(t *testing.T) {
	w := newWorld(t)
	if code, out := w.run(Spec{Cmd: []string{"echo", "hello"}}); code != 0 || out != "hello\n" {
		t.Errorf("echo: exit %d, output %q", code, out)
	}
	if code, _ := w.run(Spec{Cmd: []string{"exit", "42"}}); code != 42 {
		t.Errorf("exit 42: got %d", code)
	}
	c := w.start(Spec{Cmd: []string{"err", "oops"}})
	w.wait(c.ID)
	if got := w.logs(c.ID, LogOptions{Stdout: true}); got != "" {
		t.Errorf("stdout has %q", got)
	}
	if got := w.logs(c.ID, LogOptions{Stderr: true}); got != "oops\n" {
		t.Errorf("stderr has %q", got)
	}
}

func TestProcessSeesWhatWasConfigured(t *testing.T) {
	w := newWorld(t)
	w.image("conf", image.ContainerConfig{}, dirEntry("etc"), dirEntry("work"), dirEntry("home"),
		tarFile{name: "etc/passwd", body: "root:x:0:0::/root:/sh\nweb:x:500:600::/home:/sh\n", mode: 0o644},
		tarFile{name: "etc/group", body: "root:x:0:\nweb:x:600:\nextra:x:700:web\n", mode: 0o644})
	for _, tc := range []struct {
		name string
		spec Spec
		want string
	}{
		{"cwd", Spec{Cmd: []string{"pwd"}, Dir: "/work"}, "/work\n"},
		{"hostname", Spec{Cmd: []string{"host"}, Hostname: "web-1"}, "web-1\n"},
		{"user by name has its groups", Spec{Cmd: []string{"id"}, User: "web"}, "500 600 [600 700]\n"},
		{"user and group by number", Spec{Cmd: []string{"id"}, User: "12:34"}, "12 34 [34]\n"},
		{"further groups", Spec{Cmd: []string{"id"}, User: "12:34", Groups: []string{"extra", "99"}}, "12 34 [34 99 700]\n"},
		{"only three descriptors", Spec{Cmd: []string{"ls", "/proc/self/task/../fd"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.Image = "conf"
			code, out := w.run(tc.spec)
			if code != 0 {
				t.Fatalf("exit %d: %s", code, out)
			}
			if tc.want == "" { // Go's own epoll descriptors come after the standard ones
				for _, fd := range []string{"/0", "/1", "/2"} {
					if !strings.Contains(out, fd+"\n") {
						t.Errorf("no %s in %s", fd, out)
					}
				}
			} else if out != tc.want {
				t.Errorf("got %q, want %q", out, tc.want)
			}
		})
	}
	_, out := w.run(Spec{Image: "conf", Cmd: []string{"env"}, Env: []string{"A=1", "PATH=/bin"}, User: "web", Hostname: "h"})
	got := sorted(strings.Fields(out))
	if want := []string{"A=1", "HOME=/home", "HOSTNAME=h", "PATH=/bin"}; !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
}

func TestStartErrorsHaveShellExitCodes(t *testing.T) {
	w := newWorld(t)
	w.image("odd", image.ContainerConfig{}, tarFile{name: "plain", body: "text", mode: 0o644})
	for program, want := range map[string]int{"/nowhere": 127, "/plain": 126} {
		c := w.create(Spec{Image: "odd", Entrypoint: []string{program}})
		err := w.Start(w.ctx(), c.ID)
		var fail *StartError
		if !errors.As(err, &fail) || fail.Code != want || !strings.Contains(err.Error(), program) {
			t.Errorf("%s: %v, want code %d", program, err, want)
		}
		c, _ = w.Get(c.ID)
		if c.State != Created || c.ExitCode != want || c.Error == "" || !c.StartedAt.IsZero() {
			t.Errorf("%s: state %s, exit code %d, error %q", program, c.State, c.ExitCode, c.Error)
		}
	}
	if p := w.Check(w.ctx()); len(p) > 0 {
		t.Error("left:", p)
	}
}

func TestStopIsHeededAndThenForced(t *testing.T) {
	w := newWorld(t)
	polite := w.start(Spec{Cmd: []string{"wait", "7"}})
	w.ready(polite.ID)
	if err := w.Stop(w.ctx(), polite.ID, nil); err != nil {
		t.Fatal(err)
	}
	if c, _ := w.Get(polite.ID); c.State != Exited || c.ExitCode != 7 {
		t.Errorf("polite: %s, %d", c.State, c.ExitCode)
	}
	deaf := w.start(Spec{Cmd: []string{"deaf"}})
	w.ready(deaf.ID)
	grace := 50 * time.Millisecond
	if err := w.Stop(w.ctx(), deaf.ID, &grace); err != nil {
		t.Fatal(err)
	}
	if c, _ := w.Get(deaf.ID); c.State != Exited || c.ExitCode != 137 {
		t.Errorf("deaf: %s, %d", c.State, c.ExitCode)
	}
}

// ready waits until the payload's "ready" is in the log.
func (w *world) ready(ref string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx(), 10*time.Second)
	defer cancel()
	for l, err := range w.Logs(ctx, ref, LogOptions{Stdout: true, Follow: true, Tail: -1}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.HasPrefix(string(l.Data), "ready") {
			return
		}
	}
	w.t.Fatalf("%s never said ready", ref)
}

func TestStatesForbidWhatMakesNoSense(t *testing.T) {
	w := newWorld(t)
	idle := w.create(Spec{Name: "idle"})
	busy := w.start(Spec{Name: "busy", Cmd: []string{"wait"}})
	for name, tc := range map[string]struct {
		err  error
		kind error
		text string
	}{
		"unknown":       {w.Start(w.ctx(), "nobody"), errs.NotFound, "No such container: nobody"},
		"kill idle":     {w.Kill(w.ctx(), "idle", ""), errs.Conflict, "is not running"},
		"bad signal":    {w.Kill(w.ctx(), "busy", "FOO"), errs.Invalid, "Invalid signal: FOO"},
		"pause idle":    {w.Pause(w.ctx(), "idle"), errs.Conflict, "is not running"},
		"unpause busy":  {w.Unpause(w.ctx(), "busy"), errs.Conflict, "is not paused"},
		"remove busy":   {w.Remove(w.ctx(), "busy", RemoveOptions{}), errs.Conflict, "container is running"},
		"name taken":    {second(w.Create(w.ctx(), Spec{Image: "payload", Name: "busy"})), errs.Conflict, `The container name "/busy" is already in use by container "` + busy.ID},
		"no image":      {second(w.Create(w.ctx(), Spec{Image: "nosuch"})), errs.NotFound, "nosuch"},
		"exec idle":     {second(w.ExecCreate("idle", ExecSpec{Args: []string{"x"}})), errs.Conflict, "is not running"},
		"bad name":      {second(w.Create(w.ctx(), Spec{Image: "payload", Name: "a b"})), errs.Invalid, "Invalid container name (a b)"},
		"missing bind":  {second(w.Create(w.ctx(), Spec{Image: "payload", Mounts: []Mount{{Type: "bind", Source: "/nowhere/x", Target: "/x"}}})), errs.Invalid, "bind source path does not exist: /nowhere/x"},
		"taken by self": {w.Rename(w.ctx(), "idle", "idle"), errs.Invalid, "same name"},
	} {
		if !errors.Is(tc.err, tc.kind) || !strings.Contains(fmt.Sprint(tc.err), tc.text) {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
	if err := w.Start(w.ctx(), "busy"); err != nil {
		t.Errorf("start of a running one: %v", err)
	}
	if got := len(w.List()); got != 2 {
		t.Errorf("%d containers after refused requests, want 2", got)
	}
	if c, err := w.Get(idle.ID[:10]); err != nil || c.ID != idle.ID {
		t.Errorf("by prefix: %v, %v", c.ID, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestPauseStopsTheClock(t *testing.T) {
	w := newWorld(t)
	c := w.start(Spec{Cmd: []string{"wait", "3"}})
	w.ready(c.ID)
	if err := w.Pause(w.ctx(), c.ID); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.Get(c.ID); got.State != Paused {
		t.Errorf("state %s", got.State)
	}
	if err := w.Stop(w.ctx(), c.ID, nil); err != nil { // thaws it first
		t.Fatal(err)
	}
	if got, _ := w.Get(c.ID); got.ExitCode != 3 {
		t.Errorf("exit code %d, want 3", got.ExitCode)
	}
}

func TestAutoRemoveLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.image("vol", image.ContainerConfig{ImageConfig: ociVolumes("/data")}, dirEntry("data"), tarFile{name: "data/f", body: "from the image", mode: 0o644})
	c := w.create(Spec{Image: "vol", AutoRemove: true, Cmd: []string{"cat", "/data/f"}})
	if n := len(w.cfg.Volumes.List()); n != 1 {
		t.Fatalf("%d volumes, want 1", n)
	}
	wait, err := w.Waiter(c.ID, Removed)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(w.ctx(), c.ID); err != nil {
		t.Fatal(err)
	}
	if x, err := wait(w.ctx()); err != nil || x.Code != 0 {
		t.Fatal(x, err)
	}
	if len(w.List()) != 0 || len(w.cfg.Volumes.List()) != 0 || len(w.cfg.Images.Snapshots()) != 0 {
		t.Error("left:", w.List(), w.cfg.Volumes.List(), w.cfg.Images.Snapshots())
	}
}

func TestVolumesAndMounts(t *testing.T) {
	w := newWorld(t)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "f"), []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	bind := func(target string, ro bool) Spec {
		return Spec{Mounts: []Mount{{Type: "bind", Source: host, Target: target, ReadOnly: ro}}}
	}
	s := bind("/m", false)
	s.Cmd = []string{"write", "/m/g", "written"}
	if code, out := w.run(s); code != 0 {
		t.Fatal(out)
	}
	if got, _ := os.ReadFile(filepath.Join(host, "g")); string(got) != "written" {
		t.Errorf("host sees %q", got)
	}
	s = bind("/m", true)
	s.Cmd = []string{"write", "/m/h", "x"}
	if code, out := w.run(s); code == 0 || !strings.Contains(out, "read-only") {
		t.Errorf("write to a read-only mount: %d %s", code, out)
	}
	vol := Spec{Mounts: []Mount{{Type: "volume", Source: "keep", Target: "/v"}}, Cmd: []string{"write", "/v/x", "kept"}}
	w.run(vol)
	vol.Cmd = []string{"cat", "/v/x"}
	if _, out := w.run(vol); out != "kept" {
		t.Errorf("the volume has %q", out)
	}
	if err := w.cfg.Volumes.Remove("keep"); !errors.Is(err, errs.Conflict) {
		t.Errorf("removed a volume in use: %v", err)
	}
	tmp := Spec{Tmpfs: map[string]string{"/t": "size=1m"}, Cmd: []string{"write", "/t/x", "y"}}
	if code, out := w.run(tmp); code != 0 {
		t.Errorf("tmpfs: %s", out)
	}
	one := Spec{Mounts: []Mount{{Type: "bind", Source: filepath.Join(host, "f"), Target: "/etc/one"}}, Cmd: []string{"cat", "/etc/one"}}
	if _, out := w.run(one); out != "host" {
		t.Errorf("a bound file reads %q", out)
	}
}

func TestNetworksAndPorts(t *testing.T) {
	w := newWorld(t)
	port := freePort(t)
	server := w.start(Spec{Name: "server", Cmd: []string{"serve", "80", "hello"},
		Network: NetworkSpec{Ports: []Port{{HostPort: port, ContainerPort: 80, HostIP: netip.MustParseAddr("127.0.0.1")}}}})
	w.ready(server.ID)
	ep := server.Endpoints[DefaultNetwork]
	if !ep.IP.IsValid() || len(ep.Ports) != 1 || ep.Ports[0].HostPort != port {
		t.Fatalf("endpoint %+v", ep)
	}
	if code, out := w.run(Spec{Cmd: []string{"dial", ep.IP.String() + ":80"}}); code != 0 || out != "hello\n" {
		t.Errorf("from another container: %d %q", code, out)
	}
	if got := fetch(t, "127.0.0.1:"+strconv.Itoa(int(port))); got != "hello\n" {
		t.Errorf("by the published port: %q", got)
	}
	if _, out := w.run(Spec{Network: NetworkSpec{Mode: "none"}, Cmd: []string{"addrs"}}); !strings.HasPrefix(out, "lo ") || strings.Contains(out, "eth0") {
		t.Errorf("network none shows %q", out)
	}
	if _, out := w.run(Spec{Network: NetworkSpec{Mode: "container:server"}, Cmd: []string{"dial", "127.0.0.1:80"}}); out != "hello\n" {
		t.Errorf("in the other's namespace: %q", out)
	}
	_, out := w.run(Spec{Cmd: []string{"cat", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}, Hostname: "me",
		Network: NetworkSpec{DNS: []string{"10.1.2.3"}, ExtraHosts: []string{"db:10.9.9.9"}}})
	for _, want := range []string{"127.0.0.1\tlocalhost\n", "\tme\n", "10.9.9.9\tdb\n", "nameserver 10.1.2.3\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	clash := w.create(Spec{Network: NetworkSpec{Ports: []Port{{HostPort: port, ContainerPort: 80, HostIP: netip.MustParseAddr("127.0.0.1")}}}, Cmd: []string{"wait"}})
	if err := w.Start(w.ctx(), clash.ID); !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), strconv.Itoa(int(port))) {
		t.Errorf("a port that is taken: %v", err)
	}
}

// On a network that a user made containers find each other by name, ID and alias; the rest is asked of the servers that the
// container was given.
func TestContainersOfANetworkFindEachOtherByName(t *testing.T) {
	w := newWorld(t)
	if _, err := w.cfg.Networks.Create(w.ctx(), network.Spec{Name: "team"}); err != nil {
		t.Fatal(err)
	}
	a := w.start(Spec{Name: "alpha", Cmd: []string{"serve", "80", "hello"}, Network: NetworkSpec{Mode: "team", Aliases: []string{"db"}}})
	w.ready(a.ID)
	for _, name := range []string{"alpha", "db", a.ID[:12], "alpha.team"} {
		if code, out := w.run(Spec{Network: NetworkSpec{Mode: "team"}, Cmd: []string{"dial", name + ":80"}}); code != 0 || out != "hello\n" {
			t.Errorf("%s: %d %q", name, code, out)
		}
	}
	if code, out := w.run(Spec{Cmd: []string{"dial", "alpha:80"}}); code == 0 {
		t.Errorf("from the default network: %q", out)
	}
	gateway := a.Endpoints["team"].Gateway
	_, out := w.run(Spec{Network: NetworkSpec{Mode: "team", DNS: []string{"127.0.0.53"}}, Cmd: []string{"cat", "/etc/resolv.conf"}})
	if !strings.Contains(out, "nameserver "+gateway.String()+"\n") || strings.Contains(out, "127.0.0.53") {
		t.Errorf("resolv.conf: %s", out)
	}
}

func freePort(t *testing.T) uint16 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func fetch(t *testing.T, addr string) string {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestExec(t *testing.T) {
	w := newWorld(t)
	c := w.start(Spec{Cmd: []string{"wait"}, Env: []string{"FROM=container"}, Hostname: "box"})
	w.ready(c.ID)
	var out, errOut bytes.Buffer
	x, err := w.Exec(w.ctx(), c.ID, ExecSpec{Args: []string{"/payload", "env"}, Env: []string{"MORE=exec"}}, Streams{Stdout: &out, Stderr: &errOut})
	if err != nil || x.Code != 0 {
		t.Fatal(x, err, errOut.String())
	}
	for _, want := range []string{"FROM=container\n", "MORE=exec\n", "HOSTNAME=box\n", "HOME=/\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
	out.Reset()
	x, err = w.Exec(w.ctx(), c.ID, ExecSpec{Args: []string{"/payload", "copy"}, Stdin: true}, Streams{Stdin: strings.NewReader("through"), Stdout: &out})
	if err != nil || out.String() != "through" {
		t.Errorf("stdin: %v %v %q", x, err, out.String())
	}
	if x, err = w.Exec(w.ctx(), c.ID, ExecSpec{Args: []string{"/payload", "exit", "9"}}, Streams{}); err != nil || x.Code != 9 {
		t.Errorf("exit code: %v %v", x, err)
	}
	var fail *StartError
	if _, err = w.Exec(w.ctx(), c.ID, ExecSpec{Args: []string{"/nowhere"}}, Streams{}); !errors.As(err, &fail) || fail.Code != 127 {
		t.Errorf("missing program: %v", err)
	}
	short, cancel := context.WithTimeout(w.ctx(), 100*time.Millisecond)
	defer cancel()
	if _, err = w.Exec(short, c.ID, ExecSpec{Args: []string{"/payload", "sleep", "60000"}}, Streams{Stdout: &out}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an exec that takes too long: %v", err)
	}
	id, err := w.ExecCreate(c.ID, ExecSpec{Args: []string{"/payload", "exit", "4"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ExecStart(w.ctx(), id, Streams{Stdout: &out}, false); err != nil {
		t.Fatal(err)
	}
	w.eventually("the exec's end is known", func() bool { s, err := w.ExecInspect(id); return err == nil && !s.Running && s.ExitCode == 4 })
	_, rows, err := w.Top(w.ctx(), c.ID, "")
	if err != nil || !slices.ContainsFunc(rows, func(r []string) bool { return strings.HasSuffix(r[7], "/payload wait") }) {
		t.Errorf("top: %v %v", rows, err)
	}
}

// eventually waits for what no event tells a test.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for range 500 {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond) //house:allow time.Sleep: between two looks at what sends no event
	}
	w.t.Fatal("never: " + what)
}

func TestAttachBeforeStartMissesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.create(Spec{Cmd: []string{"copy"}, OpenStdin: true, StdinOnce: true})
	var out bytes.Buffer
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- w.Attach(context.Background(), c.ID, Streams{Stdin: strings.NewReader("abc"), Stdout: &out}, AttachOptions{Ready: func() { close(ready) }})
	}()
	<-ready
	if err := w.Start(w.ctx(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || out.String() != "abc" {
		t.Errorf("attach: %v, %q", err, out.String())
	}
	if x := w.wait(c.ID); x.Code != 0 {
		t.Errorf("exit %d", x.Code)
	}
}

func TestTerminal(t *testing.T) {
	w := newWorld(t)
	c := w.create(Spec{Cmd: []string{"env"}, Terminal: true, OpenStdin: true})
	var out bytes.Buffer
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- w.Attach(context.Background(), c.ID, Streams{Stdout: &out}, AttachOptions{Ready: func() { close(ready) }})
	}()
	<-ready
	if err := w.Start(w.ctx(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !strings.Contains(out.String(), "TERM=xterm\r\n") {
		t.Errorf("attach: %v, %q", err, out.String())
	}
}

func TestFollowedLogSurvivesRotationAndEnds(t *testing.T) {
	w := newWorld(t)
	const n = 3000
	c := w.start(Spec{Cmd: []string{"lines", strconv.Itoa(n)}, LogMaxBytes: 40_000, LogMaxFiles: 10})
	got := w.logs(c.ID, LogOptions{Follow: true})
	var want strings.Builder
	for i := range n {
		fmt.Fprintln(&want, "line", i)
	}
	if got != want.String() {
		t.Errorf("%d bytes, want %d; it ends with %q", len(got), want.Len(), got[max(0, len(got)-40):])
	}
	if !exists(c.LogPath + ".1") {
		t.Error("nothing was rotated: the test tests nothing")
	}
	if got := w.logs(c.ID, LogOptions{Tail: 2}); got != "line 2998\nline 2999\n" {
		t.Errorf("tail: %q", got)
	}
	if got := strings.Count(w.logs(c.ID, LogOptions{Tail: 2500}), "\n"); got != 2500 {
		t.Errorf("a tail across files has %d lines", got)
	}
}

func TestRestartPolicyCountsAndGivesUp(t *testing.T) {
	w := newWorld(t)
	c := w.start(Spec{Cmd: []string{"exit", "5"}, Restart: RestartPolicy{Name: "on-failure", MaxRetries: 2}})
	x := w.wait(c.ID)
	got, _ := w.Get(c.ID)
	if x.Code != 5 || got.RestartCount != 2 || got.State != Exited {
		t.Errorf("exit %d after %d restarts, %s", x.Code, got.RestartCount, got.State)
	}
	always := w.start(Spec{Cmd: []string{"exit", "0"}, Restart: RestartPolicy{Name: "always"}})
	w.eventually("restarted", func() bool { c, _ := w.Get(always.ID); return c.RestartCount >= 1 })
	if err := w.Stop(w.ctx(), always.ID, nil); err != nil {
		t.Fatal(err)
	}
	w.eventually("rests", func() bool { c, _ := w.Get(always.ID); return c.State == Exited })
}

func TestLimitsReachTheKernel(t *testing.T) {
	w := newWorld(t)
	c := w.start(Spec{Cmd: []string{"wait"}, Resources: Resources{Memory: 64 << 20, PidsLimit: 50, CPUPeriod: 100_000, CPUQuota: 20_000}})
	s, err := w.Stats(w.ctx(), c.ID)
	if err != nil || s.MemoryLimit != 64<<20 || s.PidsLimit != 50 || s.Pids == 0 || s.MemoryUsage == 0 || s.Networks["eth0"] == (NetworkStats{}) && len(s.Networks) != 1 {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := w.Update(w.ctx(), c.ID, UpdateOptions{Resources: &Resources{PidsLimit: 77}}); err != nil {
		t.Fatal(err)
	}
	if s, _ = w.Stats(w.ctx(), c.ID); s.PidsLimit != 77 || s.MemoryLimit != 64<<20 {
		t.Errorf("after update: %+v", s)
	}
	eater := w.start(Spec{Cmd: []string{"eat", "100"}, Resources: Resources{Memory: 32 << 20, MemorySwap: 32 << 20}})
	if x := w.wait(eater.ID); x.Code != 137 || !x.OOMKilled {
		t.Errorf("over the memory limit: %+v", x)
	}
}

func TestDiffAndCommit(t *testing.T) {
	w := newWorld(t)
	c := w.start(Spec{Cmd: []string{"write", "/new", "committed"}})
	w.wait(c.ID)
	changes, err := w.Diff(c.ID)
	if err != nil || len(changes) != 1 || changes[0].Path != "/new" || changes[0].Kind != image.Added {
		t.Errorf("diff: %v %v", changes, err)
	}
	if _, err := w.Commit(w.ctx(), c.ID, CommitOptions{Name: "next", Message: "why"}); err != nil {
		t.Fatal(err)
	}
	if _, out := w.run(Spec{Image: "next", Cmd: []string{"cat", "/new"}}); out != "committed" {
		t.Errorf("the new image has %q", out)
	}
}

func TestSharedNamespacesOfTwo(t *testing.T) {
	w := newWorld(t)
	donor := w.start(Spec{Name: "donor", Cmd: []string{"wait"}, IpcMode: "shareable"})
	w.ready(donor.ID)
	_, out := w.run(Spec{Cmd: []string{"cat", "/proc/1/cmdline"}, PidMode: "container:donor"})
	if !strings.Contains(out, "wait") {
		t.Errorf("PID 1 is %q", out)
	}
	if _, err := w.Exec(w.ctx(), donor.ID, ExecSpec{Args: []string{"/payload", "write", "/dev/shm/x", "shared"}}, Streams{}); err != nil {
		t.Fatal(err)
	}
	if _, out := w.run(Spec{Cmd: []string{"cat", "/dev/shm/x"}, IpcMode: "container:donor"}); out != "shared" {
		t.Errorf("shared memory has %q", out)
	}
}

func TestSmallInitReapsAndPassesSignals(t *testing.T) {
	w := newWorld(t)
	c := w.start(Spec{Cmd: []string{"wait", "6"}, Init: true})
	w.ready(c.ID)
	if err := w.Stop(w.ctx(), c.ID, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.Get(c.ID); got.ExitCode != 6 {
		t.Errorf("exit code %d, want 6", got.ExitCode)
	}
}

func TestEventsTellALife(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(w.ctx())
	defer cancel()
	seq := w.Events(ctx, time.Time{})
	w.run(Spec{Name: "told", Cmd: []string{"exit", "3"}})
	if err := w.Remove(w.ctx(), "told", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for ev, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ev.Action)
		if ev.Action == "die" && ev.Attributes["exitCode"] != "3" {
			t.Errorf("attributes %v", ev.Attributes)
		}
		if ev.Action == "destroy" {
			break
		}
	}
	if want := []string{"create", "connect", "start", "die", "disconnect", "destroy"}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}
