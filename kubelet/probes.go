// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/kubelet/probe"
	"github.com/knarr/knarr/kubelet/server"
)

type proberKey struct{ id, kind string }

// syncProbes has exactly the probes running that the state wants.
func (w *worker) syncProbes(ctx context.Context, s *lifecycle.State) {
	want := map[proberKey]bool{}
	for name, c := range lifecycle.SidecarsAndMains(s) {
		spec, _, _ := lifecycle.FindContainer(s.Pod, name)
		if spec.StartupProbe == nil && spec.LivenessProbe == nil && spec.ReadinessProbe == nil {
			continue
		}
		now := w.knownProbes(s, spec, c)
		_, stopping := s.Stops[c.ID]
		for kind, p := range probesOf(spec, now.Started, stopping) {
			key := proberKey{c.ID, kind}
			want[key] = true
			if w.probers[key] == nil {
				w.startProber(ctx, s, key, p, spec, c)
			}
		}
	}
	for key, cancel := range w.probers {
		if !want[key] {
			cancel()
			delete(w.probers, key)
		}
	}
}

// probesOf are those that run now: the startup probe alone until it has succeeded, then the others; of a container that
// is being ended only readiness.
func probesOf(c *corev1.Container, started, stopping bool) map[string]*corev1.Probe {
	out := map[string]*corev1.Probe{}
	add := func(kind string, p *corev1.Probe) {
		if p != nil {
			out[kind] = p
		}
	}
	switch {
	case c.StartupProbe != nil && !started:
		if !stopping {
			add("Startup", c.StartupProbe)
		}
	default:
		add("Readiness", c.ReadinessProbe)
		if !stopping {
			add("Liveness", c.LivenessProbe)
		}
	}
	return out
}

// knownProbes are the results so far. Of a container that a kubelet before us started, the API's word holds until a probe
// has answered: a restart of the kubelet makes nothing unready.
func (w *worker) knownProbes(s *lifecycle.State, spec *corev1.Container, c *podruntime.Container) lifecycle.Probes {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.mem.Probes[c.ID]
	if ok {
		return p
	}
	p.Started = spec.StartupProbe == nil
	for _, list := range [][]corev1.ContainerStatus{s.Pod.Status.ContainerStatuses, s.Pod.Status.InitContainerStatuses} {
		for _, cs := range list {
			if cs.ContainerID == lifecycle.ContainerIDPrefix+c.ID && cs.State.Running != nil {
				p.Ready = cs.Ready
				p.Started = p.Started || cs.Started != nil && *cs.Started
			}
		}
	}
	w.mem.Probes[c.ID] = p
	s.Probes[c.ID] = p // this pass reports it already
	return p
}

func (w *worker) startProber(ctx context.Context, s *lifecycle.State, key proberKey, p *corev1.Probe, spec *corev1.Container, c *podruntime.Container) {
	ctx, cancel := context.WithCancel(ctx)
	w.probers[key] = cancel
	target := probe.Target{Container: spec, ID: c.ID, IP: w.ip(s)}
	pod, started := s.Pod, c.StartedAt
	if since := time.Since(started); since < 0 {
		started = time.Now()
	}
	w.background.Go(func() {
		probe.Run(ctx, w.k.rt, target, p, started, func(r probe.Result, settled bool) {
			w.k.probes.Add(server.ProbeOf{UID: pod.UID, Namespace: pod.Namespace, Pod: pod.Name, Container: spec.Name, Type: key.kind, OK: r.OK})
			if !r.OK {
				w.eventOn(pod, spec.Name, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %s", key.kind, r.Message))
			}
			if settled {
				w.probed(key, r.OK)
			}
		})
	})
}

// probed notes a result, and has the worker look if it is news.
func (w *worker) probed(key proberKey, ok bool) {
	w.mu.Lock()
	old := w.mem.Probes[key.id]
	p := old
	switch {
	case key.kind == "Readiness":
		p.Ready = ok
	case key.kind == "Startup" && ok:
		p.Started = true
	case !ok:
		p.Failed = key.kind
	}
	w.mem.Probes[key.id] = p
	w.mu.Unlock()
	if p != old {
		w.poke()
	}
}
