// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/node"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/kubelet/server"
	"github.com/knarr/knarr/state/cache"
)

// Pods lists the pods of this node.
func (k *Kubelet) Pods() []*corev1.Pod {
	var out []*corev1.Pod
	for p := range cache.Indexed[corev1.Pod](k.cache.Snapshot(), cache.ByNode, k.cfg.NodeName) {
		out = append(out, p)
	}
	return out
}

func (k *Kubelet) pod(namespace, name string) (*corev1.Pod, error) {
	p, ok := cache.Get[corev1.Pod](k.cache.Snapshot(), namespace, name)
	if !ok || p.Spec.NodeName != k.cfg.NodeName {
		return nil, errs.New(errs.NotFound, "pod %q not found in namespace %q on node %s", name, namespace, k.cfg.NodeName)
	}
	return p, nil
}

// Container finds the newest run of a container, or the one before it.
func (k *Kubelet) Container(ctx context.Context, namespace, name, container string, previous bool) (podruntime.Container, error) {
	p, err := k.pod(namespace, name)
	if err != nil {
		return podruntime.Container{}, err
	}
	_, kind, ok := lifecycle.FindContainer(p, container)
	if !ok {
		return podruntime.Container{}, errs.New(errs.NotFound, "container %s is not valid for pod %s", container, name)
	}
	list, err := k.rt.ListContainers(ctx, string(p.UID))
	if err != nil {
		return podruntime.Container{}, err
	}
	runs := lifecycle.Runs(list, container)
	if previous {
		// What ran before the present run; while the next one is waited for, that is the newest.
		if len(runs) > 0 && runs[0].State == podruntime.Exited && waits(p, kind, container) {
			return runs[0], nil
		}
		if len(runs) < 2 {
			return podruntime.Container{}, errs.New(errs.Invalid, "previous terminated container %q in pod %q not found", container, name)
		}
		return runs[1], nil
	}
	if len(runs) == 0 {
		return podruntime.Container{}, errs.New(errs.Invalid, "container %q in pod %q is waiting to start: %s", container, name, waiting(p, kind, container))
	}
	return runs[0], nil
}

func waits(p *corev1.Pod, kind lifecycle.Kind, container string) bool {
	cs := lifecycle.StatusOf(p, kind, container)
	return cs != nil && cs.State.Waiting != nil
}

// waiting says for what a container waits.
func waiting(p *corev1.Pod, kind lifecycle.Kind, container string) string {
	cs := lifecycle.StatusOf(p, kind, container)
	if cs == nil || cs.State.Waiting == nil {
		return "ContainerCreating"
	}
	switch reason := cs.State.Waiting.Reason; reason {
	case lifecycle.ErrImagePull, lifecycle.ImagePullBackOff:
		return "trying and failing to pull image"
	case lifecycle.ErrImageNeverPull:
		return "image can't be pulled"
	default:
		return reason
	}
}

// Sandbox finds the ID of a pod's sandbox.
func (k *Kubelet) Sandbox(ctx context.Context, namespace, name string) (string, error) {
	p, err := k.pod(namespace, name)
	if err != nil {
		return "", err
	}
	all, err := k.rt.ListSandboxes(ctx)
	if err != nil {
		return "", err
	}
	best := ""
	for _, s := range all {
		if s.Labels[podruntime.LabelPodUID] == string(p.UID) && s.Ready &&
			(best == "" || lifecycle.SandboxAttempt(s.ID) > lifecycle.SandboxAttempt(best)) {
			best = s.ID
		}
	}
	if best == "" {
		return "", errs.New(errs.Invalid, "pod %q has no sandbox yet, or not any more", name)
	}
	return best, nil
}

// Usage looks at what everything uses. What cannot be read is left out.
func (k *Kubelet) Usage(ctx context.Context) server.Usage {
	var u server.Usage
	if n, err := node.Measure(k.cfg.DataDir); err == nil {
		u.Node = server.NodeUsage{Time: n.Time, CPUNanos: n.CPUNanos, MemoryUsage: uint64(n.MemoryTotal - n.MemoryAvailable),
			MemoryAvailable: uint64(n.MemoryAvailable), DiskTotal: uint64(n.DiskTotal), DiskAvailable: uint64(n.DiskAvailable),
			Inodes: n.Inodes, InodesFree: n.InodesFree, Tasks: n.Tasks, MaxTasks: n.MaxTasks}
	} else {
		k.log.Debug("measure the node", "err", err)
		u.Node.Time = time.Now()
	}
	for _, p := range k.Pods() {
		if p.Status.Phase == corev1.PodRunning {
			u.Pods = append(u.Pods, k.podUsage(ctx, p))
		}
	}
	return u
}

func (k *Kubelet) podUsage(ctx context.Context, p *corev1.Pod) server.PodUsage {
	u := server.PodUsage{Pod: p}
	if id, err := k.Sandbox(ctx, p.Namespace, p.Name); err == nil {
		if u.Sandbox, err = k.rt.SandboxStats(ctx, id); err != nil {
			k.log.Debug("measure a pod", "pod", p.Namespace+"/"+p.Name, "err", err)
		}
	}
	list, err := k.rt.ListContainers(ctx, string(p.UID))
	if err != nil {
		k.log.Debug("measure a pod", "pod", p.Namespace+"/"+p.Name, "err", err)
	}
	for _, c := range list {
		if c.State != podruntime.Running {
			continue
		}
		if st, err := k.rt.ContainerStats(ctx, c.ID); err == nil {
			u.Containers = append(u.Containers, server.ContainerUsage{Name: c.Labels[podruntime.LabelContainerName], Started: c.StartedAt, ContainerStats: st})
		}
	}
	return u
}

// configz is how this kubelet is configured, in the words of kubelet.config.k8s.io/v1beta1, as far as it can be.
func (k *Kubelet) configz() map[string]any {
	dns := []string{}
	for _, a := range k.cfg.ClusterDNS {
		dns = append(dns, a.String())
	}
	return map[string]any{
		"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
		"port": k.cfg.Port, "readOnlyPort": 0, "maxPods": k.cfg.MaxPods, "clusterDomain": k.cfg.ClusterDomain, "clusterDNS": dns,
		"enableDebuggingHandlers": !k.cfg.NoDebugging, "podLogsDir": k.cfg.LogDir, "resolvConf": k.cfg.ResolvConf,
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true}},
		"authorization":  map[string]any{"mode": "Webhook"},
		"seccompDefault": false, "cgroupDriver": "cgroupfs", "nodeLeaseDurationSeconds": 40,
	}
}
