// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/state/cache"
)

// observe gathers what Decide looks at.
func (w *worker) observe(ctx context.Context) (*lifecycle.State, error) {
	containers, err := w.k.rt.ListContainers(ctx, string(w.uid))
	if err != nil {
		return nil, err
	}
	sandboxes, err := w.k.rt.ListSandboxes(ctx)
	if err != nil {
		return nil, err
	}
	for i := range containers {
		settleFailedStart(&containers[i])
	}
	s := &lifecycle.State{UID: w.uid, Namespace: w.namespace, Name: w.name, Pod: w.object(), Containers: containers,
		NodeIPs: w.k.view.IPs, Now: time.Now()}
	w.sandboxes(s, sandboxes)
	if s.Pod != nil {
		if w.k.cfg.Follow != nil {
			if err := w.k.cfg.Follow(ctx, s.Pod); err != nil {
				return nil, err
			}
		}
		w.admit(s)
		w.messages(ctx, s)
	} else if len(containers) > 0 {
		n, _ := strconv.Atoi(containers[0].Labels[podruntime.LabelGrace])
		s.DefaultWait = time.Duration(n) * time.Second
	}
	wait := s.DefaultWait
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prune(containers)
	s.Memory = w.mem
	s.DefaultWait = wait
	s.Pulls, s.Stops, s.Hooks = maps.Clone(w.mem.Pulls), maps.Clone(w.mem.Stops), maps.Clone(w.mem.Hooks)
	s.Probes, s.Messages = maps.Clone(w.mem.Probes), maps.Clone(w.mem.Messages)
	s.Faults, s.Announced = maps.Clone(w.mem.Faults), maps.Clone(w.mem.Announced)
	return s, nil
}

// settleFailedStart: a start that failed is an end, whatever the runtime calls it, or it would be tried again without pause.
func settleFailedStart(c *podruntime.Container) {
	if c.State == podruntime.Created && c.Error != "" {
		c.State = podruntime.Exited
	}
	if c.State == podruntime.Exited && c.FinishedAt.IsZero() {
		c.FinishedAt = c.Created
	}
}

// object is the pod as the API has it: the cache's, or what our own last write returned if that is newer.
func (w *worker) object() *corev1.Pod {
	if w.gone || w.name == "" {
		return nil
	}
	p, ok := cache.Get[corev1.Pod](w.k.cache.Snapshot(), w.namespace, w.name)
	if !ok || p.UID != w.uid || p.Spec.NodeName != w.k.cfg.NodeName {
		return nil
	}
	if revision(w.written) > revision(p) {
		return w.written
	}
	return p
}

func (w *worker) sandboxes(s *lifecycle.State, all []podruntime.Sandbox) {
	for _, b := range all {
		if b.Labels[podruntime.LabelPodUID] != string(w.uid) {
			continue
		}
		switch {
		case s.Sandbox == nil:
			s.Sandbox = &b
		case lifecycle.SandboxAttempt(b.ID) > lifecycle.SandboxAttempt(s.Sandbox.ID):
			s.Old = append(s.Old, *s.Sandbox)
			s.Sandbox = &b
		default:
			s.Old = append(s.Old, b)
		}
	}
}

// prune forgets containers that are gone. The caller holds mu.
func (w *worker) prune(containers []podruntime.Container) {
	there := map[string]bool{}
	for _, c := range containers {
		there[c.ID] = true
	}
	maps.DeleteFunc(w.mem.Stops, func(id string, _ lifecycle.Stop) bool { return !there[id] })
	maps.DeleteFunc(w.mem.Hooks, func(id string, _ lifecycle.Hook) bool { return !there[id] })
	maps.DeleteFunc(w.mem.Probes, func(id string, _ lifecycle.Probes) bool { return !there[id] })
	maps.DeleteFunc(w.mem.Messages, func(id string, _ string) bool { return !there[id] })
	if len(w.mem.Announced) > 1000 {
		w.mem.Announced = map[string]bool{}
	}
}

// Bounds of a termination message, in bytes; of one taken from the log, in lines too.
const (
	maxMessage      = 4096
	maxLogMessage   = 2048
	logMessageLines = 80
)

// messages reads what containers left when they ended.
func (w *worker) messages(ctx context.Context, s *lifecycle.State) {
	for i := range s.Containers {
		c := &s.Containers[i]
		w.mu.Lock()
		_, known := w.mem.Messages[c.ID]
		w.mu.Unlock()
		if known || c.State != podruntime.Exited {
			continue
		}
		msg := readMessage(c.Labels[podruntime.LabelMessagePath])
		spec, _, ok := lifecycle.FindContainer(s.Pod, c.Labels[podruntime.LabelContainerName])
		if msg == "" && ok && spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError && c.ExitCode != 0 {
			msg = w.logTail(ctx, c.ID)
		}
		w.mu.Lock()
		w.mem.Messages[c.ID] = msg
		w.mu.Unlock()
	}
}

// readMessage reads a file that the container could write: no link is followed, no more than the bound is read.
func readMessage(path string) string {
	if path == "" {
		return ""
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		return "Error reading termination message: " + err.Error()
	}
	defer f.Close()
	buf := make([]byte, maxMessage)
	n, _ := f.Read(buf) // at the end of an empty file: no message
	return strings.ToValidUTF8(string(buf[:n]), "\uFFFD")
}

func (w *worker) logTail(ctx context.Context, id string) string {
	var b strings.Builder
	for line, err := range w.k.rt.Logs(ctx, id, podruntime.LogOptions{Tail: logMessageLines}) {
		if err != nil {
			break
		}
		b.Write(line.Data)
	}
	out := b.String()
	if len(out) > maxLogMessage {
		out = out[len(out)-maxLogMessage:]
	}
	return strings.ToValidUTF8(out, "\uFFFD")
}
