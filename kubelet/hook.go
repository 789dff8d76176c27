// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/kubelet/probe"
)

// postStart runs the hook beside the container; it counts as running when the hook is done, and is ended when it failed.
func (w *worker) postStart(ctx context.Context, s *lifecycle.State, c *corev1.Container, id string) {
	ip := w.ip(s)
	w.background.Go(func() {
		err := w.runHook(ctx, probe.Target{Container: c, ID: id, IP: ip}, c.Lifecycle.PostStart)
		if ctx.Err() != nil {
			return
		}
		h := lifecycle.Hook{Done: true}
		if err != nil {
			h.Error = err.Error()
			w.eventOn(s.Pod, c.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
		}
		w.update(func(m *lifecycle.Memory) { m.Hooks[id] = h })
	})
}

// preStop runs the hook, at most for the stop's grace.
func (w *worker) preStop(ctx context.Context, s *lifecycle.State, a lifecycle.PreStop) {
	c, _, _ := lifecycle.FindContainer(s.Pod, a.Container)
	var grace time.Duration
	w.change(func(m *lifecycle.Memory) {
		st := m.Stops[a.ID]
		st.HookStarted, grace = true, st.Grace
		m.Stops[a.ID] = st
	})
	ip := w.ip(s)
	w.background.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if err := w.runHook(ctx, probe.Target{Container: c, ID: a.ID, IP: ip}, c.Lifecycle.PreStop); err != nil {
			w.eventOn(s.Pod, c.Name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
		}
		w.update(func(m *lifecycle.Memory) {
			if st, ok := m.Stops[a.ID]; ok {
				st.HookDone = true
				m.Stops[a.ID] = st
			}
		})
	})
}

// ip is where the pod answers.
func (w *worker) ip(s *lifecycle.State) string {
	switch {
	case s.Pod != nil && s.Pod.Spec.HostNetwork && len(s.NodeIPs) > 0:
		return s.NodeIPs[0]
	case s.Sandbox != nil && len(s.Sandbox.IPs) > 0:
		return s.Sandbox.IPs[0].String()
	}
	return ""
}

func (w *worker) runHook(ctx context.Context, t probe.Target, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		var out probe.Limited
		code, err := w.k.rt.Exec(ctx, t.ID, podruntime.ExecSpec{Args: h.Exec.Command}, podruntime.Stdio{Stdout: &out, Stderr: &out})
		if err == nil && code != 0 {
			err = fmt.Errorf("command %q exited with %d: %s", strings.Join(h.Exec.Command, " "), code, out.String())
		}
		return err
	case h.HTTPGet != nil:
		req, err := probe.Request(ctx, t, h.HTTPGet)
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", "kube-lifecycle/1.37")
		resp, err := probe.Client().Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close() // any answer will do, as upstream
	case h.TCPSocket != nil:
		return probe.Dial(ctx, t, h.TCPSocket)
	case h.Sleep != nil:
		pause(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	}
	return nil
}
