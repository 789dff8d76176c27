// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/state/cache"
)

// retryAfter is how long a loop waits after a failure that nothing will announce the end of.
const retryAfter = time.Second

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// watchPods gives every pod of the node a worker and wakes it when the object changes. First it takes over what is there:
// the API must have been read, or every pod would look deleted.
func (k *Kubelet) watchPods(ctx context.Context) error {
	pods := kinds.For[corev1.Pod]()
	if _, err := k.cache.Wait(ctx, 1, pods, kinds.For[corev1.ConfigMap](), kinds.For[corev1.Secret](), kinds.For[corev1.Service]()); err != nil {
		return err
	}
	for ctx.Err() == nil {
		snap := k.cache.Snapshot()
		for p := range cache.Indexed[corev1.Pod](snap, cache.ByNode, k.cfg.NodeName) {
			k.ensure(ctx, p.UID, p.Namespace, p.Name)
		}
		if err := k.adopt(ctx); err != nil {
			k.log.Error("look for what is left of pods", "err", err)
			pause(ctx, retryAfter)
			continue
		}
		for c, err := range k.cache.Watch(ctx, pods, snap.RevisionOf(pods)) {
			if err != nil {
				k.log.Debug("watch pods again", "err", err)
				break
			}
			for _, e := range []*cache.Entry{c.Old, c.New} {
				if e == nil {
					continue
				}
				if p := cache.As[corev1.Pod](e); p != nil && p.Spec.NodeName == k.cfg.NodeName {
					k.ensure(ctx, p.UID, p.Namespace, p.Name)
				}
			}
		}
	}
	return context.Cause(ctx)
}

// adopt makes workers for pods that the runtime or the disk still knows: they clean up, or find their object.
func (k *Kubelet) adopt(ctx context.Context) error {
	containers, err := k.rt.ListContainers(ctx, "")
	if err != nil {
		return err
	}
	sandboxes, err := k.rt.ListSandboxes(ctx)
	if err != nil {
		return err
	}
	labels := make([]map[string]string, 0, len(containers)+len(sandboxes))
	for _, c := range containers {
		labels = append(labels, c.Labels)
	}
	for _, s := range sandboxes {
		labels = append(labels, s.Labels)
	}
	for _, l := range labels {
		if uid := l[podruntime.LabelPodUID]; uid != "" {
			k.ensure(ctx, types.UID(uid), l[podruntime.LabelPodNamespace], l[podruntime.LabelPodName])
		}
	}
	entries, err := os.ReadDir(filepath.Join(k.cfg.DataDir, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for pods' folders: %w", err)
	}
	for _, e := range entries {
		k.ensure(ctx, types.UID(e.Name()), "", "")
	}
	return nil
}

// ensure wakes the worker of a pod, or starts one.
func (k *Kubelet) ensure(ctx context.Context, uid types.UID, namespace, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w, ok := k.workers[uid]; ok {
		w.poke()
		return
	}
	if k.closed || ctx.Err() != nil {
		return
	}
	w := newWorker(k, uid, namespace, name)
	k.workers[uid] = w
	k.running.Go(func() { w.run(ctx) })
}

// forget ends a worker's membership; the pod's share of the node is free.
func (k *Kubelet) forget(w *worker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.workers, w.uid)
	k.probes.Forget(w.uid)
	delete(k.admitted, w.uid)
}

// watchRuntime wakes workers when their containers start or end.
func (k *Kubelet) watchRuntime(ctx context.Context) error {
	for ctx.Err() == nil {
		for e, err := range k.rt.Events(ctx) {
			if err != nil {
				if !errors.Is(err, errs.Gone) && ctx.Err() == nil {
					k.log.Error("watch the container runtime", "err", err)
					pause(ctx, retryAfter)
				}
				break
			}
			k.wake(func(w *worker) bool { return e.Type == podruntime.Subscribed || string(w.uid) == e.PodUID })
		}
	}
	return context.Cause(ctx)
}

// wake pokes the workers that match.
func (k *Kubelet) wake(match func(*worker) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		if match(w) {
			w.poke()
		}
	}
}

// watchKind has the pods that use an object look at it again when it changes.
func watchKind[T any](ctx context.Context, k *Kubelet) error {
	t := kinds.For[T]()
	if _, err := k.cache.Wait(ctx, 1, t); err != nil {
		return err
	}
	for ctx.Err() == nil {
		snap := k.cache.Snapshot()
		for c, err := range k.cache.Watch(ctx, t, snap.RevisionOf(t)) {
			if err != nil {
				k.wake(func(w *worker) bool { w.refresh(); return true }) // what was missed is not known
				break
			}
			if e := c.Entry(); e != nil {
				k.refreshUsers(t.Plural, e.Object.GetNamespace(), e.Object.GetName())
			}
		}
	}
	return context.Cause(ctx)
}

func (k *Kubelet) refreshUsers(resource, namespace, name string) {
	for p := range cache.Indexed[corev1.Pod](k.cache.Snapshot(), cache.ByNode, k.cfg.NodeName) {
		if p.Namespace == namespace && refers(p, resource, name) {
			k.wake(func(w *worker) bool {
				if w.uid == p.UID {
					w.refresh()
					return true
				}
				return false
			})
		}
	}
}

func refers(p *corev1.Pod, resource, name string) bool {
	for r, n := range kinds.References(p) {
		if r == resource && n == name {
			return true
		}
	}
	return false
}
