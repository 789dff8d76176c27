// SPDX-License-Identifier: Apache-2.0

// Command conformance runs the Kubernetes conformance tests against a cluster of two nodes of this checkout.
//
//	go run . [-focus REGEX] [-skip REGEX] [-procs N] [-out FOLDER] [-cache FOLDER] [-keep]
//
// It builds the tests (e2e.test) and what they run (agnhost and others) from the Go modules in go.mod; starts a server and an
// agent in two network namespaces that a cable joins; makes the images that the tests name with `knarr build`; runs the
// specs, prints what passed, by area, and leaves junit.xml, e2e.log and the nodes' logs in the folder -out.
//
// It is a Go module of its own, for it needs all of Kubernetes; it owns nothing of the system and imports nothing of it. It
// needs root, `make build` before, and on the machine busybox-static and debootstrap.
//
// Files: build.go (programs), images.go (images), cluster.go (namespaces and daemons), report.go (the table). The namespaces and
// daemons end with the command, on a signal too, unless -keep.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

type options struct {
	focus, skip string
	procs       int
	root        string // the checkout
	out, cache  string
	keep        bool
}

func main() {
	var o options
	flag.StringVar(&o.focus, "focus", `\[Conformance\]`, "run the conformance specs whose text matches")
	flag.StringVar(&o.skip, "skip", "", "leave out those whose text matches")
	flag.IntVar(&o.procs, "procs", 4, "specs at a time")
	flag.StringVar(&o.root, "root", "../..", "the checkout, built")
	flag.StringVar(&o.out, "out", "out", "folder of results")
	flag.StringVar(&o.cache, "cache", ".cache", "folder of built programs and of the Debian root file system")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster running, and say how to reach it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	for _, p := range []*string{&o.root, &o.out, &o.cache} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	for _, dir := range []string{o.out, o.cache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := buildPrograms(ctx, o.cache); err != nil {
		return err
	}
	c, err := startCluster(ctx, o)
	if c != nil {
		defer func() {
			if logErr := c.keepLogs(o.out); err == nil {
				err = logErr
			}
			if stopErr := c.stop(o.keep); err == nil {
				err = stopErr
			}
		}()
	}
	if err != nil {
		return err
	}
	if err := makeImages(ctx, o, c); err != nil {
		return err
	}
	if err := runTests(ctx, o, c); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err) // failed specs are a result, which the table shows
	}
	failed, err := report(filepath.Join(o.out, "junit.xml"), os.Stdout)
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d specs failed; %s has their words", failed, filepath.Join(o.out, "e2e.log"))
	}
	return err
}

// runTests runs ginkgo in the server's namespace, where pods, services and nodes answer.
func runTests(ctx context.Context, o options, c *cluster) error {
	focus := o.focus
	if focus != `\[Conformance\]` {
		focus = `(` + focus + `).*\[Conformance\]`
	}
	args := []string{
		"--procs=" + strconv.Itoa(o.procs), "--focus=" + focus, "--no-color", "--timeout=6h",
		"--junit-report=junit.xml", "--output-dir=" + o.out, "--silence-skips",
	}
	if o.skip != "" {
		args = append(args, "--skip="+o.skip)
	}
	args = append(args, filepath.Join(o.cache, "e2e.test"), "--",
		"--kubeconfig="+c.kubeconfig(), "--provider=skeleton", "--disable-log-dump", "--dump-logs-on-failure=false", "--num-nodes=2",
		"--allowed-not-ready-nodes=0", "--report-dir="+o.out)
	log, err := os.OpenFile(filepath.Join(o.out, "e2e.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, filepath.Join(o.cache, "ginkgo"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second // ginkgo cleans up first, which may wait for what will not come
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig())
	cmd.Stdout, cmd.Stderr = log, log
	fmt.Println("running the specs; progress is in", log.Name())
	if err := c.server.start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}
