// SPDX-License-Identifier: Apache-2.0

// Command bench measures a whole Knarr on this machine, from the outside, and prints medians: cold start of a cluster, run of a
// container, the daemon's memory and idle CPU, a 30-replica Deployment. It uses the programs in bin/, an instance of its own,
// and removes it at the end. The runtime's own benchmark, with its ratio to the bare kernel work, is in engine/oci.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each figure is taken; the median is printed")
	idle := flag.Duration("idle", 10*time.Second, "how long the idle CPU is watched")
	flag.Parse()
	if err := run(*rounds, *idle); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one instance under measurement.
type bench struct {
	bin, data, run string
	env            []string
}

func run(rounds int, idle time.Duration) (err error) {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	b := &bench{bin: bin}
	if b.run, err = os.MkdirTemp("/run", "kb"); err != nil {
		return err
	}
	defer os.RemoveAll(b.run)
	if b.data, err = os.MkdirTemp("", "knarr-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.data)
	b.env = append(os.Environ(), "KNARR_HOST=unix://"+b.run+"/engine.sock", "KUBECONFIG="+b.data+"/kubeconfig")
	defer func() {
		if e := b.do("knarr", append([]string{"down", "--purge"}, b.flags()...)...); err == nil {
			err = e
		}
	}()

	var cold []time.Duration
	for n := range rounds {
		if n > 0 {
			if err := b.do("knarr", append([]string{"down", "--purge"}, b.flags()...)...); err != nil {
				return err
			}
		}
		d, err := b.time("knarr", append(append([]string{"up"}, b.flags()...), "--", "--listen", "0.0.0.0:0",
			"--cluster-cidr", "10.252.0.0/16", "--service-cidr", "10.253.0.0/16")...)
		if err != nil {
			return err
		}
		cold = append(cold, d)
	}
	print("cluster cold start, empty folder to node Ready", median(cold), "aim 1 s")
	if err := b.image(); err != nil {
		return err
	}
	pid, err := b.pid()
	if err != nil {
		return err
	}
	if err := b.memory(pid, "daemon's memory, empty cluster"); err != nil {
		return err
	}

	var once []time.Duration
	for range rounds * 4 {
		d, err := b.time("knarr", "run", "--rm", "payload", "true")
		if err != nil {
			return err
		}
		once = append(once, d)
	}
	print("knarr run --rm of a static true", median(once), "aim 50 ms")
	if err := b.builds(rounds); err != nil {
		return err
	}

	var rollout []time.Duration
	for n := range rounds {
		name := fmt.Sprint("web", n)
		start := time.Now()
		if err := b.do("knarrd", "kubectl", "create", "deployment", name, "--image=payload", "--replicas=30"); err != nil {
			return err
		}
		if err := b.do("knarrd", "kubectl", "rollout", "status", "deployment/"+name, "--timeout=120s"); err != nil {
			return err
		}
		rollout = append(rollout, time.Since(start))
		if n == rounds-1 {
			break
		}
		if err := b.do("knarrd", "kubectl", "delete", "deployment", name, "--cascade=foreground"); err != nil {
			return err
		}
		if err := b.do("knarrd", "kubectl", "wait", "--for=delete", "pods", "-l", "app="+name, "--timeout=120s"); err != nil {
			return err
		}
	}
	print("Deployment of 30 replicas, create to all Ready (with two kubectl calls)", median(rollout), "aim 2 s")
	if err := b.memory(pid, "daemon's memory with 30 idle pods"); err != nil {
		return err
	}
	return b.idle(pid, idle)
}

func (b *bench) flags() []string {
	return []string{"--name", "kbench", "--data-dir", b.data, "--run-dir", b.run}
}

func (b *bench) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(b.bin, name), args...)
	c.Env = b.env
	return c
}

func (b *bench) do(name string, args ...string) error {
	if out, err := b.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func (b *bench) time(name string, args ...string) (time.Duration, error) {
	start := time.Now()
	err := b.do(name, args...)
	return time.Since(start), err
}

// image builds the tests' payload into an image from scratch.
func (b *bench) image() error {
	dir := filepath.Join(b.data, "payload")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", dir+"/payload", "./test/payload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the payload: %w\n%s", err, out)
	}
	if err := os.WriteFile(dir+"/Dockerfile", []byte("FROM scratch\nCOPY payload /payload\nENTRYPOINT [\"/payload\"]\n"), 0o644); err != nil {
		return err
	}
	return b.do("knarr", "build", "-t", "payload", dir)
}

func (b *bench) pid() (int, error) {
	data, err := os.ReadFile(filepath.Join(b.run, "knarrd.pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(data)))
}

// memory prints RSS and its anonymous part, and the sum of the monitors' private memory.
func (b *bench) memory(pid int, what string) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	value := func(name string) string {
		for line := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(line, name+":"); ok {
				kb, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
				return fmt.Sprintf("%.0f MB", float64(kb)/1024)
			}
		}
		return "?"
	}
	fmt.Printf("%-75s RSS %s, of it anonymous %s (aim 100 MB)\n", what, value("VmRSS"), value("RssAnon"))
	return nil
}

// idle prints the CPU that the daemon uses while nothing is asked of it, in percent of one.
func (b *bench) idle(pid int, d time.Duration) error {
	before, err := ticks(pid)
	if err != nil {
		return err
	}
	<-time.After(d)
	after, err := ticks(pid)
	if err != nil {
		return err
	}
	const ticksPerSecond = 100 // USER_HZ, fixed on Linux
	fmt.Printf("%-75s %.2f %% of a core over %s (aim 1 %%)\n", "daemon's idle CPU with 30 pods", float64(after-before)/ticksPerSecond/d.Seconds()*100, d)
	return nil
}

func ticks(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+2:]))
	user, err := strconv.Atoi(f[11])
	if err != nil {
		return 0, err
	}
	kernel, err := strconv.Atoi(f[12])
	return user + kernel, err
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func print(what string, d time.Duration, aim string) {
	fmt.Printf("%-75s %.1f ms (%s)\n", what, float64(d.Microseconds())/1000, aim)
}
