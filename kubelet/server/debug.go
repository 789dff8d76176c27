// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// debugging are the paths that can be switched off: those that show what is inside of containers and act there.
func (s *server) debugging(mux *http.ServeMux) {
	for _, method := range []string{"GET ", "POST "} {
		for _, uid := range []string{"", "/{uid}"} {
			mux.HandleFunc(method+"/exec/{namespace}/{pod}"+uid+"/{container}", s.exec)
			mux.HandleFunc(method+"/attach/{namespace}/{pod}"+uid+"/{container}", s.attach)
			mux.HandleFunc(method+"/portForward/{namespace}/{pod}"+uid, s.portForward)
		}
	}
	for _, uid := range []string{"", "/{uid}"} {
		mux.HandleFunc("POST /run/{namespace}/{pod}"+uid+"/{container}", s.run)
	}
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.logs)
	mux.HandleFunc("GET /configz", func(w http.ResponseWriter, r *http.Request) {
		s.json(w, r, map[string]any{"kubeletconfig": s.cfg.Configz})
	})
	mux.HandleFunc("GET /runningpods/", s.runningPods)
	mux.HandleFunc("GET /logs/", s.nodeLogs)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// notDebugging answers the same paths when they are switched off.
func notDebugging(mux *http.ServeMux) {
	off := func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Debug endpoints are disabled.", http.StatusMethodNotAllowed)
	}
	for _, p := range []string{"/exec/", "/attach/", "/portForward/", "/run/", "/containerLogs/", "/configz", "/runningpods/", "/logs/", "/debug/"} {
		mux.HandleFunc(p, off)
	}
}

// maxRunOutput bounds what an answer of /run holds.
const maxRunOutput = 10 << 20

// run executes a command, split at its spaces, and answers with what it wrote.
func (s *server) run(w http.ResponseWriter, r *http.Request) {
	c, ok := s.running(w, r)
	if !ok {
		return
	}
	cmd := r.URL.Query().Get("cmd")
	if cmd == "" {
		s.fail(w, r, errs.New(errs.Invalid, "cmd: say the command to run"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), runWithin)
	defer cancel()
	out := &bounded{}
	code, err := s.rt.Exec(ctx, c.ID, podruntime.ExecSpec{Args: strings.Split(cmd, " ")}, podruntime.Stdio{Stdout: out, Stderr: out})
	if err == nil && code != 0 {
		err = fmt.Errorf("command '%s' exited with %d: %s", cmd, code, out.text())
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(out.text()) // the client may be gone
}

// runWithin bounds a command of /run.
const runWithin = 2 * time.Minute

// bounded keeps the first maxRunOutput bytes.
type bounded struct {
	mu  sync.Mutex // guards buf: both outputs write
	buf bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p[:min(len(p), maxRunOutput-b.buf.Len())])
	return len(p), nil
}

func (b *bounded) text() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

// runningPods lists what runs, as the runtime knows it.
func (s *server) runningPods(w http.ResponseWriter, r *http.Request) {
	l := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: []corev1.Pod{}}
	for _, u := range s.pods.Usage(r.Context()).Pods {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: u.Pod.Name, Namespace: u.Pod.Namespace, UID: u.Pod.UID}}
		for _, c := range u.Containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c.Name, Image: imageOf(u.Pod, c.Name)})
		}
		if len(p.Spec.Containers) > 0 {
			l.Items = append(l.Items, p)
		}
	}
	s.json(w, r, l)
}

func imageOf(p *corev1.Pod, container string) string {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range list {
			if c.Name == container {
				return c.Image
			}
		}
	}
	return ""
}

// nodeLogs shows the node's log files. A pod that writes there by a hostPath cannot lead out of them with a link.
func (s *server) nodeLogs(w http.ResponseWriter, r *http.Request) {
	root, err := os.OpenRoot(s.cfg.NodeLogs)
	if err != nil {
		s.fail(w, r, errs.New(errs.NotFound, "the node's logs: %w", err))
		return
	}
	defer root.Close()
	http.StripPrefix("/logs", plainFiles(http.FileServerFS(root.FS()))).ServeHTTP(w, r)
}

// plainFiles has logs shown as text, whatever their names say.
func plainFiles(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/") {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
