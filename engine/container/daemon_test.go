// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The tests below let a child process be the daemon, so that it can die at any moment as a daemon does.

const daemonEnv = "KNARR_CONTAINER_TEST_DAEMON" // "name|dir|run|shim"

// daemonMain runs an engine until it is killed.
func daemonMain() {
	part := strings.Split(os.Getenv(daemonEnv), "|")
	e, err := openParts(part[0], part[1], part[2], part[3], slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	ctx := context.Background()
	go func() { _ = e.Run(ctx) }()
	fmt.Println("open")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		word := strings.Fields(in.Text())
		switch word[0] {
		case "start":
			s := Spec{Name: word[1], Image: "payload", Cmd: word[2:]}
			if strings.HasPrefix(word[1], "always") {
				s.Restart.Name = "always"
			}
			c, err := e.Create(ctx, s)
			if err == nil {
				err = e.Start(ctx, c.ID)
			}
			if err == nil {
				c, err = e.Get(c.ID)
			}
			fmt.Println("started", c.Pid, err)
		case "sandbox":
			_, err := e.CreateSandbox(ctx, SandboxSpec{ID: word[1], Hostname: "pod"})
			fmt.Println("made", err)
		case "storm": // never ends: it is killed somewhere in the middle
			fmt.Println("storming")
			for i := 0; ; i++ {
				name := fmt.Sprintf("storm%d", i)
				_, _ = e.CreateSandbox(ctx, SandboxSpec{ID: name})
				if c, err := e.Create(ctx, Spec{Name: name, Image: "payload", Cmd: []string{"exit", "3"}}); err == nil {
					_ = e.Start(ctx, c.ID)
					if i%2 == 0 {
						_ = e.Remove(ctx, c.ID, RemoveOptions{Force: true})
					}
				}
				_ = e.RemoveSandbox(ctx, name)
			}
		}
	}
}

type daemon struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Scanner
	t   *testing.T
}

func (w *world) daemon(t *testing.T) *daemon {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), daemonEnv+"="+strings.Join([]string{w.name, w.dir, w.runDir, built.shim}, "|"))
	cmd.Stderr = os.Stderr
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = pr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pr.Close()
	d := &daemon{cmd: cmd, in: pw, out: bufio.NewScanner(out), t: t}
	t.Cleanup(d.kill)
	d.expect("open")
	return d
}

func (d *daemon) expect(prefix string) string {
	d.t.Helper()
	if !d.out.Scan() || !strings.HasPrefix(d.out.Text(), prefix) {
		d.t.Fatalf("the daemon says %q, want %q", d.out.Text(), prefix)
	}
	return strings.TrimPrefix(d.out.Text(), prefix+" ")
}

func (d *daemon) tell(line, answer string) string {
	d.t.Helper()
	fmt.Fprintln(d.in, line)
	return d.expect(answer)
}

// kill is kill -9, and waits until the kernel has let go of the daemon's locks.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	d.in.Close()
}

func TestContainersOutliveAKilledDaemon(t *testing.T) {
	w := newWorld(t)
	w.close()
	d := w.daemon(t)
	var pid [2]int
	for i, args := range []string{"stays wait 4", "writes lines 200 5"} {
		if _, err := fmt.Sscan(d.tell("start "+args, "started"), &pid[i]); err != nil {
			t.Fatal(err)
		}
	}
	d.tell("start ends exit 5", "started")
	d.tell("sandbox pod", "made <nil>")
	d.kill()
	for _, p := range pid {
		if !alive(p) {
			t.Fatalf("process %d died with the daemon", p)
		}
	}
	w.open()
	for i, name := range []string{"stays", "writes"} {
		if c, err := w.Get(name); err != nil || c.State != Running || c.Pid != pid[i] || !c.Endpoints[DefaultNetwork].IP.IsValid() {
			t.Errorf("%s: %s, pid %d, want %d; %v %v", name, c.State, c.Pid, pid[i], c.Endpoints, err)
		}
	}
	if s, err := w.Sandbox("pod"); err != nil || !s.Ready || !s.IP.IsValid() {
		t.Errorf("sandbox: %+v %v", s, err)
	}
	if x := w.wait("ends"); x.Code != 5 {
		t.Errorf("exit code %d, want 5", x.Code)
	}
	if x := w.wait("writes"); x.Code != 0 || strings.Count(w.logs("writes", LogOptions{}), "\n") != 200 {
		t.Errorf("exit %d, log %q", x.Code, w.logs("writes", LogOptions{Tail: 3}))
	}
	if err := w.Stop(w.ctx(), "stays", nil); err != nil {
		t.Fatal(err)
	}
	if c, _ := w.Get("stays"); c.ExitCode != 4 {
		t.Errorf("exit code %d, want 4", c.ExitCode)
	}
}

func TestRestartPolicyAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.close()
	d := w.daemon(t)
	d.tell("start always-up wait 1", "started")
	d.kill()
	w.open()
	c, err := w.Get("always-up")
	if err != nil {
		t.Fatal(err)
	}
	// A reboot takes monitor and process; here a signal to both does.
	w.close()
	g, err := w.layout.Open("/" + w.name + "/" + c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.eventually("runs again", func() bool { n, _ := w.Get("always-up"); return n.State == Running && n.Pid != c.Pid })
}

// A daemon that dies at any instruction leaves nothing that the next one does not clear.
func TestDaemonKilledAtRandomMoments(t *testing.T) {
	w := newWorld(t)
	for i := range 6 {
		w.close()
		d := w.daemon(t)
		d.tell("storm", "storming")
		<-time.After(time.Duration(20+37*i) * time.Millisecond) //house:allow time.Sleep: the kill comes at a moment that nobody chose
		d.kill()
		w.open()
		for _, c := range w.List() { // 137: the daemon was about to remove it
			if c.State == Running {
				w.wait(c.ID)
			}
			if c, _ = w.Get(c.ID); c.State != Created && (c.State != Exited || c.ExitCode != 3 && c.ExitCode != 137) {
				t.Errorf("round %d: %s is %s, exit code %d, %q", i, c.Spec.Name, c.State, c.ExitCode, c.Error)
			}
			if err := w.Remove(w.ctx(), c.ID, RemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
		for _, s := range w.Sandboxes() {
			if err := w.RemoveSandbox(w.ctx(), s.Spec.ID); err != nil {
				t.Error(err)
			}
		}
		for _, p := range w.Check(w.ctx()) {
			t.Errorf("round %d: %v", i, p)
		}
		if e := w.cfg.Networks.Endpoints(""); len(e) > 0 {
			t.Errorf("round %d: endpoints left: %v", i, e)
		}
	}
}
