// SPDX-License-Identifier: Apache-2.0

// Package server is the kubelet's HTTP API: logs, exec, attach, port-forward, and what the node uses.
//
//	GET       /containerLogs/{namespace}/{pod}/{container}
//	GET, POST /exec /attach/{namespace}/{pod}[/{uid}]/{container}    SPDY/3.1; WebSocket v4 and v5.channel.k8s.io
//	GET, POST /portForward/{namespace}/{pod}[/{uid}]                 SPDY/3.1; WebSocket v4; SPDY in a WebSocket
//	GET       /pods /runningpods/ /stats/summary /configz /logs/ /debug/pprof/ /healthz
//	GET       /metrics /metrics/resource /metrics/cadvisor /metrics/probes
//	POST      /run/{namespace}/{pod}[/{uid}]/{container}?cmd=
//
// What shows the inside of containers or acts there can be switched off (Config.NoDebugging), as can all that only helps to
// find faults.
//
// It authenticates nobody itself: its handler is for the API server in the same process. Served over TLS it is wrapped in
// Access.Guard, which lets nobody in on any path whom the API server does not know, and allow what he asks (k8s#38784).
//
// A client that goes away ends what it started: the connection's end ends the request's context, so that no process and no
// goroutine stays behind.
//
// Goroutines: those of its requests. No files.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// Pods finds what a request names.
type Pods interface {
	// Pods lists the pods of this node.
	Pods() []*corev1.Pod
	// Container finds the newest run of a container, or the one before it. Errors say why there is none.
	Container(ctx context.Context, namespace, pod, container string, previous bool) (podruntime.Container, error)
	// Sandbox finds the ID of a pod's sandbox.
	Sandbox(ctx context.Context, namespace, pod string) (string, error)
	// Usage looks at what everything uses.
	Usage(ctx context.Context) Usage
}

// Config of a server.
type Config struct {
	NodeName string
	Started  time.Time
	NodeLogs string       // the folder that /logs/ shows
	Configz  any          // what /configz shows
	Probes   *ProbeCounts // of /metrics/probes; nil: none
	// NoDebugging switches off the handlers that act in containers, show their logs, or help to find faults.
	NoDebugging bool
}

type server struct {
	cfg  Config
	pods Pods
	rt   podruntime.Streams
	log  *slog.Logger
	rate rates
}

// New makes the handler.
func New(cfg Config, pods Pods, rt podruntime.Streams, log *slog.Logger) http.Handler {
	s := &server{cfg: cfg, pods: pods, rt: rt, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	mux.HandleFunc("GET /pods", s.list)
	mux.HandleFunc("GET /pods/{$}", s.list)
	mux.HandleFunc("GET /stats/summary", s.summary)
	mux.HandleFunc("GET /metrics", s.metrics())
	mux.HandleFunc("GET /metrics/resource", s.resourceMetrics)
	mux.HandleFunc("GET /metrics/cadvisor", s.cadvisorMetrics)
	mux.HandleFunc("GET /metrics/probes", s.probeMetrics)
	if cfg.NoDebugging {
		notDebugging(mux)
	} else {
		s.debugging(mux)
	}
	return mux
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	l := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: []corev1.Pod{}}
	for _, p := range s.pods.Pods() {
		l.Items = append(l.Items, *p)
	}
	s.json(w, r, l)
}

func (s *server) json(w http.ResponseWriter, r *http.Request, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client may be gone
}

// statusOf maps the kinds of failure.
func statusOf(err error) int {
	for kind, code := range map[error]int{
		errs.NotFound: http.StatusNotFound, errs.Invalid: http.StatusBadRequest, errs.Conflict: http.StatusBadRequest,
		errs.Denied: http.StatusForbidden, errs.Unavailable: http.StatusServiceUnavailable, errs.Gone: http.StatusGone,
		errs.Unsupported: http.StatusNotImplemented, errs.TooLarge: http.StatusRequestEntityTooLarge, errs.Exists: http.StatusConflict,
		errs.Unauthentic: http.StatusUnauthorized,
	} {
		if errors.Is(err, kind) {
			return code
		}
	}
	return http.StatusInternalServerError
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.log.Debug("a request to the kubelet fails", "path", r.URL.Path, "err", err)
	http.Error(w, err.Error(), statusOf(err))
}
