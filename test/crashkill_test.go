// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/vishvananda/netlink"
)

// TestKilledEngineLosesNothing kills `knarrd engine` again and again, at random instants of a mixed load and of its own
// start. After each restart what was acknowledged is there, what was removed is not, containers have gone on, and fsck finds
// nothing; at the end nothing is left anywhere. KNARR_CRASHES is the number of kills, KNARR_SEED repeats a load (the
// instants of the kills and the order of the workers' requests stay chance).
func TestKilledEngineLosesNothing(t *testing.T) {
	needRoot(t)
	kills, seed := number(t, "KNARR_CRASHES", 15), number(t, "KNARR_SEED", int(time.Now().UnixNano()))
	t.Logf("KNARR_SEED=%d", seed)
	i := newInstance(t, buildBinaries(t))
	addresses := loopback(t)
	d := &engineProcess{instance: i}
	t.Cleanup(func() { d.end(t) })
	d.start(t)
	fresh := d.cost(t)
	i.buildPayload(t)
	l := &load{engineProcess: d, rand: rand.New(rand.NewPCG(uint64(seed), 0))}
	for k := range 5 {
		l.workers = append(l.workers, newWorker(k, uint64(seed)))
	}
	for n := range kills {
		l.round(t, time.Duration(l.rand.Int64N(int64(500*time.Millisecond))), true)
		if l.rand.IntN(3) == 0 { // once more, in the middle of the recovery
			d.begin(t)
			<-time.After(time.Duration(l.rand.Int64N(int64(60 * time.Millisecond))))
			d.kill(t)
		}
		d.start(t)
		l.check(t, n+1)
		if t.Failed() {
			return
		}
	}
	l.round(t, time.Second, false)
	l.check(t, kills+1)
	l.removeAll(t)
	i.must(t, "knarr", append([]string{"fsck", "--deep"}, i.flags()...)...)
	d.settles(t, fresh)
	d.end(t)
	i.down(t)
	i.checkNothingLeft(t)
	for _, a := range loopback(t) {
		if !slices.Contains(addresses, a) {
			t.Errorf("left behind: address %s of lo", a)
		}
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return n
}

// loopback lists the addresses of lo.
func loopback(t *testing.T) []string {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range list {
		out = append(out, a.IPNet.String())
	}
	return out
}

// engineProcess is `knarrd engine` of an instance as a child of the test, so that it can be killed at an exact instant.
type engineProcess struct {
	*instance
	cmd   *exec.Cmd // nil: none runs
	ready *net.UnixConn
}

// begin starts the daemon and returns at once.
func (d *engineProcess) begin(t *testing.T) {
	t.Helper()
	if d.ready == nil {
		path := filepath.Join(d.data, "notify")
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		d.ready, d.env = conn, append(d.env, "NOTIFY_SOCKET="+path)
	}
	log, err := os.OpenFile(filepath.Join(d.data, "knarrd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d.cmd = d.command("knarrd", append([]string{"engine", "--log-level", "debug"}, d.flags()...)...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// start returns when the daemon has recovered.
func (d *engineProcess) start(t *testing.T) {
	t.Helper()
	if d.ready != nil { // what a killed one said
		buf := make([]byte, 4096)
		for d.ready.SetReadDeadline(time.Now().Add(time.Millisecond)); ; {
			if _, err := d.ready.Read(buf); err != nil {
				break
			}
		}
	}
	d.begin(t)
	d.ready.SetReadDeadline(time.Now().Add(30 * time.Second))
	for buf := make([]byte, 4096); ; {
		n, err := d.ready.Read(buf)
		if err != nil {
			t.Fatalf("the daemon does not become ready: %v", err)
		}
		if bytes.Contains(buf[:n], []byte("READY=1")) {
			return
		}
	}
}

// kill ends the daemon without warning and returns when all its threads are gone.
func (d *engineProcess) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatalf("the daemon has ended by itself: %v", err)
	}
	d.cmd.Wait()
	if d.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the daemon has ended by itself: %v", d.cmd.ProcessState)
	}
	d.cmd = nil
}

// end ends the daemon as an operator does.
func (d *engineProcess) end(t *testing.T) {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the daemon ends with %v", err)
	}
	d.cmd = nil
	d.ready.Close()
	os.Remove(filepath.Join(d.data, "notify"))
}

func (d *engineProcess) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://" + filepath.Join(d.run, "engine.sock")))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cost is what the daemon itself holds.
type cost struct{ goroutines, files int }

func (d *engineProcess) cost(t *testing.T) cost {
	t.Helper()
	c := d.client(t)
	defer c.Close()
	got, err := c.Info(t.Context(), client.InfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(fmt.Sprint("/proc/", d.cmd.Process.Pid, "/fd"))
	if err != nil {
		t.Fatal(err)
	}
	return cost{got.Info.NGoroutines, len(files)}
}

// settles waits until the daemon, which has nothing left to look after, holds no more than a fresh one did. It may keep a
// bounded number of things warm.
func (d *engineProcess) settles(t *testing.T, fresh cost) {
	t.Helper()
	const warm = 16
	var now cost
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		if now = d.cost(t); now.goroutines <= fresh.goroutines+warm && now.files <= fresh.files+warm {
			t.Logf("fresh %+v, at the end %+v", fresh, now)
			return
		}
	}
	t.Errorf("the idle daemon holds %+v, a fresh one %+v", now, fresh)
}

// load is workers at one daemon.
type load struct {
	*engineProcess
	workers []*worker
	rand    *rand.Rand
}

// round lets all workers work for a time; then the daemon is killed, or the workers are told to end with what they do.
func (l *load) round(t *testing.T, d time.Duration, kill bool) {
	t.Helper()
	c := l.client(t)
	defer c.Close()
	enough, stop := context.WithTimeout(t.Context(), d+20*time.Second)
	defer stop()
	var killed atomic.Bool
	var wg sync.WaitGroup
	for _, w := range l.workers {
		w.c = c
		wg.Go(func() {
			for !killed.Load() && (kill || enough.Err() == nil) {
				err := w.step(enough)
				if err != nil && !killed.Load() && !broken(err) {
					t.Errorf("with a daemon that lives: %v", err)
				}
				if err != nil {
					return
				}
			}
		})
	}
	<-time.After(d)
	killed.Store(true)
	if kill {
		l.kill(t)
	}
	wg.Wait()
	if kill && enough.Err() != nil {
		t.Error("a request did not end when the daemon died")
	}
}

// broken: the connection ended, as it does when the daemon is killed.
func broken(err error) bool {
	text := err.Error()
	return strings.Contains(text, "EOF") || strings.Contains(text, "connection reset") || strings.Contains(text, "broken pipe") || client.IsErrConnectionFailed(err)
}

// check compares what the workers know with what is there, and asks fsck.
func (l *load) check(t *testing.T, n int) {
	t.Helper()
	c := l.client(t)
	defer c.Close()
	w, err := look(t.Context(), c)
	if err != nil {
		t.Fatalf("after kill %d: %v", n, err)
	}
	for _, k := range l.workers {
		for _, wrong := range k.model.settle(w) {
			t.Errorf("after kill %d: %s", n, wrong)
		}
		for name, thing := range k.model {
			if thing.passing {
				l.removePassing(t, c, name)
				thing.reset()
			}
			delete(w.containers, name)
			delete(w.images, name)
		}
	}
	delete(w.images, "payload")
	if len(w.containers)+len(w.images) > 0 {
		t.Errorf("after kill %d: nobody asked for %v %v", n, w.containers, w.images)
	}
	if out, err := l.command("knarr", append([]string{"fsck"}, l.flags()...)...).CombinedOutput(); err != nil {
		t.Errorf("after kill %d: fsck: %v\n%s", n, err, out)
	}
}

// removePassing makes sure that a container of run --rm is gone.
func (l *load) removePassing(t *testing.T, c *client.Client, name string) {
	t.Helper()
	gone := c.ContainerWait(t.Context(), name, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	if _, err := c.ContainerRemove(t.Context(), name, client.ContainerRemoveOptions{Force: true}); err == nil || isGone(err) {
		return
	}
	select { // it is being removed
	case <-gone.Result:
	case <-gone.Error:
	case <-time.After(10 * time.Second):
		t.Errorf("%s was run with --rm and stays", name)
	}
}

// removeAll removes everything that the workers made.
func (l *load) removeAll(t *testing.T) {
	t.Helper()
	c := l.client(t)
	defer c.Close()
	for _, w := range l.workers {
		w.c = c
		for _, name := range w.model.pick("c", is(present)) {
			if _, err := c.ContainerRemove(t.Context(), name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
				t.Errorf("remove %s: %v", name, err)
			}
			w.model[name].reset()
		}
		for _, kind := range []struct {
			letter string
			remove func(context.Context) error
		}{{"i", w.removeImage}, {"v", w.removeVolume}, {"n", w.removeNetwork}} {
			for w.one(kind.letter, is(present)) != "" {
				if err := kind.remove(t.Context()); err != nil {
					t.Error(err)
					break
				}
			}
		}
	}
}
