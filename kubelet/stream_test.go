// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/knarr/knarr/kubelet/kubelettest"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// served is a rig with one running pod and its HTTP API on loopback.
func served(t *testing.T) (*rig, *url.URL) {
	r := newRig(t)
	r.rt.AddImage("web", func(ctx context.Context, p *kubelettest.Process) int {
		for i := range 5 {
			p.Log(fmt.Sprintf("line %d", i))
		}
		return kubelettest.UntilStopped(ctx, p)
	})
	r.rt.ExecFunc = func(ctx context.Context, _ podruntime.ContainerSpec, e podruntime.ExecSpec, s podruntime.Stdio) (int, error) {
		switch e.Args[0] {
		case "cat":
			_, err := io.Copy(s.Stdout, s.Stdin)
			return 0, err
		case "both":
			fmt.Fprint(s.Stdout, "out")
			fmt.Fprint(s.Stderr, "err")
			return 7, nil
		case "size":
			select {
			case sz := <-s.Resize:
				fmt.Fprintf(s.Stdout, "%dx%d", sz.Cols, sz.Rows)
			case <-ctx.Done():
			}
			return 0, nil
		case "forever":
			fmt.Fprint(s.Stdout, "here I am")
			<-ctx.Done()
			return -1, context.Cause(ctx)
		case "big":
			_, err := s.Stdout.Write(bytes.Repeat([]byte("x"), 3<<20))
			return 0, err
		}
		return 0, errors.New("no such command")
	}
	r.api.Put(pod("web", corev1.Container{Name: "c"}))
	r.phase("web", corev1.PodRunning)
	srv := httptest.NewServer(r.k.Handler())
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return r, u
}

// executors are the two that kubectl has.
func executors(t *testing.T, base *url.URL, path, query string) map[string]remotecommand.Executor {
	u := *base
	u.Path, u.RawQuery = path, query
	cfg := &rest.Config{Host: base.Host}
	s, err := remotecommand.NewSPDYExecutor(cfg, http.MethodPost, &u)
	if err != nil {
		t.Fatal(err)
	}
	w, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, u.String())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"spdy": s, "websocket": w}
}

type oneSize struct{ sent bool }

func (o *oneSize) Next() *remotecommand.TerminalSize {
	if o.sent {
		return nil
	}
	o.sent = true
	return &remotecommand.TerminalSize{Width: 132, Height: 43}
}

func TestExec(t *testing.T) {
	_, base := served(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, ex := range executors(t, base, "/exec/shop/web/c", "command=cat&input=1&output=1&error=1") {
		var out bytes.Buffer
		err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("through the pipe"), Stdout: &out, Stderr: io.Discard})
		if err != nil || out.String() != "through the pipe" {
			t.Errorf("%s: cat: %q, %v", name, out.String(), err)
		}
	}
	// The API's words are understood too.
	for name, ex := range executors(t, base, "/exec/shop/web/c", "command=both&stdout=true&stderr=true") {
		var out, errOut bytes.Buffer
		err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
		var exit utilexec.CodeExitError
		if out.String() != "out" || errOut.String() != "err" || !errors.As(err, &exit) || exit.Code != 7 {
			t.Errorf("%s: both: %q %q, %v", name, out.String(), errOut.String(), err)
		}
	}
	for name, ex := range executors(t, base, "/exec/shop/web/some-uid/c", "command=size&output=1&tty=1") {
		var out bytes.Buffer
		err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: &oneSize{}})
		if err != nil || out.String() != "132x43" {
			t.Errorf("%s: size: %q, %v", name, out.String(), err)
		}
	}
	for name, ex := range executors(t, base, "/exec/shop/web/c", "command=big&output=1") {
		var out bytes.Buffer
		if err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out}); err != nil || out.Len() != 3<<20 {
			t.Errorf("%s: big: %d bytes, %v", name, out.Len(), err)
		}
	}
	for name, ex := range executors(t, base, "/exec/shop/web/c", "command=none&output=1") {
		if err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "no such command") {
			t.Errorf("%s: none: %v", name, err)
		}
	}
	for _, bad := range []string{"/exec/shop/web/none?command=x&output=1", "/exec/shop/none/c?command=x&output=1", "/exec/shop/web/c?output=1", "/exec/shop/web/c?command=x"} {
		resp, err := http.Post(base.String()+bad, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", bad, resp.Status)
		}
	}
}

func TestAttach(t *testing.T) {
	_, base := served(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, ex := range executors(t, base, "/attach/shop/web/c", "stdin=true&stdout=true") {
		var out bytes.Buffer
		err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("echo"), Stdout: &out})
		if err != nil || out.String() != "echo" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
}

type beginning struct{ f func() }

func (b beginning) Write(p []byte) (int, error) { b.f(); return len(p), nil }

// GHSA-5ffw-gxpp-mxpf and its like: clients that come and go leave nothing behind.
func TestClientsThatLeaveEndTheirProcess(t *testing.T) {
	_, base := served(t)
	for name := range executors(t, base, "", "") {
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			began := beginning{cancel} // the client leaves when the process has said something
			ex := executors(t, base, "/exec/shop/web/c", "command=forever&output=1")[name]
			if err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: began}); err == nil {
				t.Errorf("%s: it ended", name)
			}
			cancel()
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for { // client-go's own goroutines stay for some seconds: look for ours
		buf := make([]byte, 4<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, "knarr/kubelet/server.") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are left:\n%s", stacks)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestPortForward(t *testing.T) {
	_, base := served(t)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from the pod") }))
	defer target.Close()
	_, port, _ := net.SplitHostPort(target.Listener.Addr().String())
	u := *base
	u.Path = "/portForward/shop/web"
	cfg := &rest.Config{Host: base.Host}
	transport, upgrader, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(&u, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name, dialer := range map[string]httpstream.Dialer{
		"spdy": spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, &u), "spdy in websocket": tunnel,
	} {
		stop, ready := make(chan struct{}), make(chan struct{})
		fw, err := portforward.NewForStreaming(dialer, []string{"0:" + port}, stop, ready, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(name, err)
		}
		done := make(chan error, 1)
		go func() { done <- fw.ForwardPorts() }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatalf("%s: %v", name, err)
		}
		ports, err := fw.GetPorts()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
			resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", ports[0].Local))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(b) != "hello from the pod" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
		close(stop)
		<-done
	}
}

func TestLogs(t *testing.T) {
	r, base := served(t)
	get := func(query string) (int, string) {
		resp, err := http.Get(base.String() + "/containerLogs/shop/web/c?" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for query, want := range map[string]string{
		"":                               "line 0\nline 1\nline 2\nline 3\nline 4\n",
		"tailLines=2":                    "line 3\nline 4\n",
		"tailLines=0":                    "",
		"limitBytes=10":                  "line 0\nlin",
		"sinceTime=2999-01-01T00:00:00Z": "",
	} {
		if code, got := get(query); code != http.StatusOK || got != want {
			t.Errorf("%s: %d %q, want %q", query, code, got, want)
		}
	}
	if _, got := get("timestamps=true&tailLines=1"); len(got) < 20 || !strings.HasSuffix(got, "Z line 4\n") {
		t.Errorf("timestamps: %q", got)
	}
	for _, bad := range []string{"tailLines=-1", "tailLines=x", "limitBytes=0", "sinceTime=yesterday", "stream=Stdmid", "previous=true"} {
		if code, got := get(bad); code != http.StatusBadRequest {
			t.Errorf("%s: %d %q", bad, code, got)
		}
	}
	if code, _ := get(""); code != http.StatusOK {
		t.Error(code)
	}
	resp, err := http.Get(base.String() + "/containerLogs/shop/web/none")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
	// Following ends with the container.
	resp, err = http.Get(base.String() + "/containerLogs/shop/web/c?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	head := make([]byte, len("line 0\n"))
	if _, err := io.ReadFull(resp.Body, head); err != nil || string(head) != "line 0\n" {
		t.Fatalf("followed %q, %v", head, err)
	}
	r.delete("web", 30)
	done := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, resp.Body); done <- err }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("following does not end")
	}
}

func TestStatsAndPods(t *testing.T) {
	_, base := served(t)
	for path, want := range map[string][]string{
		"/healthz":          {"ok"},
		"/pods":             {`"kind":"PodList"`, `"name":"web"`},
		"/stats/summary":    {`"nodeName":"n1"`, `"podRef":{"name":"web","namespace":"shop"`, `"usageCoreNanoSeconds":500000000`, `"rxBytes":7`},
		"/metrics/resource": {`container_memory_working_set_bytes{container="c",namespace="shop",pod="web"} 4096`, "node_cpu_usage_seconds_total"},
	} {
		resp, err := http.Get(base.String() + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		for _, w := range want {
			if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), w) {
				t.Errorf("%s: %s, no %s in %s", path, resp.Status, w, b)
			}
		}
	}
}
