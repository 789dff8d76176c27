// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseKill(t *testing.T) {
	const head = "3,2000,13063066617,-;"
	first := head + "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/a,task_memcg=%s,task=%s,pid=%d,uid=0\n SUBSYSTEM=x\n"
	second := head + "Memory cgroup out of memory: Killed process %d (%s) total-vm:1293844kB, anon-rss:32256kB, UID:0\n"
	for name, c := range map[string]struct {
		lines []string
		known map[int]string
		want  OOM
	}{
		"both lines":            {[]string{fmt.Sprintf(first, "/a/b", "python", 7), fmt.Sprintf(second, 7, "python")}, nil, OOM{Pid: 7, Name: "python"}},
		"the second alone":      {[]string{fmt.Sprintf(second, 7, "java")}, map[int]string{7: "java"}, OOM{Pid: 7, Name: "java"}},
		"another group":         {[]string{fmt.Sprintf(first, "/ab", "x", 7), fmt.Sprintf(second, 7, "x")}, nil, OOM{}},
		"a name like a field":   {[]string{fmt.Sprintf(first, "/a", "x,pid=9,uid=1", 7), fmt.Sprintf(second, 7, "x) total-vm:")}, nil, OOM{Pid: 7, Name: "x) total-vm:"}},
		"the whole machine's":   {[]string{head + "Out of memory: Killed process 7 (x) total-vm:1kB"}, map[int]string{7: "x"}, OOM{}},
		"cut short":             {[]string{head + "oom-kill:constraint=CONSTRAINT_MEMCG,", head + "Memory cgroup out of memory: Killed process ", "x"}, nil, OOM{}},
		"a name that is a path": {[]string{fmt.Sprintf(second, 7, "../../etc/x")}, map[int]string{7: "x"}, OOM{Pid: 7, Name: "x"}},
	} {
		known := map[int]string{}
		for k, v := range c.known {
			known[k] = v
		}
		var got OOM
		for _, line := range c.lines {
			if o, ok := parseKill(line, "/a", known); ok {
				got = o
			}
		}
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func FuzzParseKill(f *testing.F) {
	f.Add("3,1,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/a,task_memcg=/a,task=x,pid=1,uid=0")
	f.Add("3,1,1,-;Memory cgroup out of memory: Killed process 1 (x) total-vm:1kB")
	f.Fuzz(func(t *testing.T, line string) {
		if o, ok := parseKill(line, "/a", map[int]string{1: "x"}); ok && o.Pid <= 0 {
			t.Errorf("%q: %+v", line, o)
		}
	})
}

// A shell that fills its memory is killed, and the watch says its name.
func TestWatchOOM(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	l, err := Detect()
	must(t, err)
	if !l.has("memory") {
		t.Skip("this machine has no memory controller")
	}
	g, err := l.Create(fmt.Sprintf("/knarr-test-oom-%d", os.Getpid()))
	must(t, err)
	defer func() { _ = g.Kill(); must(t, g.Delete()) }()
	limit := int64(16 << 20)
	must(t, g.Apply(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}))
	w, err := g.WatchOOM()
	must(t, err)
	defer w.Close()
	for range 2 {
		cmd := exec.Command("tail", "/dev/zero") // keeps the last line, and there is but one
		OnThread(func() {
			if err = g.JoinThread(); err == nil {
				err = cmd.Start()
			}
		})
		must(t, err)
		must(t, g.Add(cmd.Process.Pid))
		got := make(chan OOM, 1)
		go func() {
			o, err := w.Next()
			if err != nil {
				t.Error(err)
			}
			got <- o
		}()
		_ = cmd.Wait()
		select {
		case o := <-got:
			if o.Kills == 0 || w.log != nil && (o.Name != "tail" || o.Pid != cmd.Process.Pid) {
				t.Errorf("told %+v, want tail, pid %d", o, cmd.Process.Pid)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("nothing was told")
		}
	}
}

// The v2 half on a tree that is only files: the watch wakes for a kill and not for the other events of the file.
func TestWatchOOMOnV2(t *testing.T) {
	dir := t.TempDir()
	l := Layout{Mode: V2, Unified: dir, Controllers: []string{"memory"}}
	must(t, os.Mkdir(filepath.Join(dir, "g"), 0o755))
	events := filepath.Join(dir, "g/memory.events")
	must(t, os.WriteFile(events, []byte("low 0\noom_kill 0\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "g/cgroup.procs"), nil, 0o644))
	g, err := l.Open("/g")
	must(t, err)
	w, err := g.WatchOOM()
	must(t, err)
	if w.log != nil {
		w.log.Close() // no such kill is in it
		w.log = nil
	}
	got := make(chan OOM, 1)
	failed := make(chan error, 1)
	go func() {
		for {
			o, err := w.Next()
			if err != nil {
				failed <- err
				return
			}
			got <- o
		}
	}()
	must(t, os.WriteFile(events, []byte("low 5\noom_kill 0\n"), 0o644))
	must(t, os.WriteFile(events, []byte("low 5\noom_kill 1\n"), 0o644))
	if o := <-got; o.Kills != 1 {
		t.Errorf("told %+v", o)
	}
	must(t, w.Close())
	if err := <-failed; !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
