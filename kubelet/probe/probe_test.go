// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// script answers Exec from a function.
type script func(ctx context.Context, args []string, out io.Writer) (int, error)

func (f script) Exec(ctx context.Context, _ string, s podruntime.ExecSpec, io podruntime.Stdio) (int, error) {
	return f(ctx, s.Args, io.Stdout)
}

func TestExec(t *testing.T) {
	ex := script(func(ctx context.Context, args []string, out io.Writer) (int, error) {
		switch args[0] {
		case "sleep":
			<-ctx.Done()
			return -1, ctx.Err()
		case "flood":
			for range 1000 {
				fmt.Fprint(out, strings.Repeat("x", 1000))
			}
			return 1, nil
		case "gone":
			return 0, fmt.Errorf("no such file")
		}
		return 0, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	check := func(cmd string) Result {
		return Check(ctx, ex, Target{}, &corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{cmd}}})
	}
	if r := check("true"); !r.OK {
		t.Error(r)
	}
	if r := check("flood"); r.OK || len(r.Message) != maxAnswer {
		t.Errorf("flood: ok %v, %d bytes kept", r.OK, len(r.Message))
	}
	if r := check("gone"); r.OK || r.Message != "no such file" {
		t.Error(r)
	}
	if r := check("sleep"); r.OK || !strings.Contains(r.Message, "timed out") {
		t.Error(r)
	}
}

func TestHTTP(t *testing.T) {
	var got *http.Request
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect left the pod") }))
	defer elsewhere.Close()
	away := strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			got = r
		case "/redirect":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/away":
			http.Redirect(w, r, away, http.StatusFound)
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	target := Target{Container: &corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(portOf(u))}}}, IP: "127.0.0.1"}
	check := func(path string) Result {
		return Check(t.Context(), nil, target, &corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("web"),
			HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "shop"}, {Name: "X-A", Value: "1"}}}})
	}
	for path, want := range map[string]string{"ok?x=1": "", "/redirect": "", "/away": "", "/endless": "", "/fail": "HTTP probe failed with statuscode: 500"} {
		if r := check(path); r.Message != want || r.OK != (want == "") {
			t.Errorf("%s: %+v", path, r)
		}
	}
	check("/ok?x=1")
	if got.Host != "shop" || got.Header.Get("X-A") != "1" || got.URL.RawQuery != "x=1" || got.UserAgent() != "kube-probe/1.37" {
		t.Errorf("request was %v %v", got.Host, got.Header)
	}
	bad := &corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("none")}}
	if r := Check(t.Context(), nil, target, bad); r.OK || !strings.Contains(r.Message, `no port named "none"`) {
		t.Error(r)
	}
}

func portOf(u *url.URL) (n int) { fmt.Sscan(u.Port(), &n); return n }

func TestTCPAndGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := int32(l.Addr().(*net.TCPAddr).Port)
	srv, h := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(srv, h)
	h.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	go srv.Serve(l)
	target := Target{Container: &corev1.Container{}, IP: "127.0.0.1"}
	ask := func(h *corev1.ProbeHandler) Result {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return Check(ctx, nil, target, h)
	}
	tcp := &corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}}
	down := "down"
	if r := ask(tcp); !r.OK {
		t.Error(r)
	}
	if r := ask(&corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port}}); !r.OK {
		t.Error(r)
	}
	if r := ask(&corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port, Service: &down}}); r.OK || !strings.Contains(r.Message, "NOT_SERVING") {
		t.Error(r)
	}
	srv.Stop()
	if r := ask(tcp); r.OK || !strings.Contains(r.Message, "refused") {
		t.Error(r)
	}
}

func TestThresholdsAndTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []bool{true, false, false, false, true, true}
		start, n := time.Now(), 0
		var log []string
		ctx, cancel := context.WithCancel(t.Context())
		ex := script(func(context.Context, []string, io.Writer) (int, error) {
			ok := answers[n]
			n++
			if ok {
				return 0, nil
			}
			return 1, nil
		})
		p := &corev1.Probe{InitialDelaySeconds: 5, PeriodSeconds: 2, FailureThreshold: 3, SuccessThreshold: 2,
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
		Run(ctx, ex, Target{}, p, start, func(r Result, settled bool) {
			log = append(log, fmt.Sprintf("%v %v %v", time.Since(start), r.OK, settled))
			if n == len(answers) {
				cancel()
			}
		})
		want := []string{"5s true false", "7s false false", "9s false false", "11s false true", "13s true false", "15s true true"}
		if !slices.Equal(log, want) {
			t.Errorf("got %v, want %v", log, want)
		}
	})
}
