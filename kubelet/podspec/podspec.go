// SPDX-License-Identifier: Apache-2.0

// Package podspec translates a pod of the API into what the runtime is asked for: sandbox and containers with their
// environment, mounts, cgroup numbers, security and name resolution.
//
// Everything is a pure function of its input; files are read and made by the kubelet. What a pod asks for and this node
// cannot do safely is an error, never left out: an unknown seccomp profile, an unverifiable user, an unsafe sysctl.
package podspec

import (
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// Node is what of this node matters to pods.
type Node struct {
	Name          string
	Hostname      string
	IPs           []string
	ClusterDNS    []string
	ClusterDomain string
	Resolv        podruntime.DNS // the host's own
	HostsFile     []byte         // the host's /etc/hosts
	LogDir        string         // pods' logs are below
	Capacity      corev1.ResourceList
	Allocatable   corev1.ResourceList
}

// Sources are what environments are filled from.
type Sources interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, bool)
	Secret(namespace, name string) (*corev1.Secret, bool)
	Services(namespace string) iter.Seq[*corev1.Service]
}

// Input is all that a container is made from.
type Input struct {
	Pod     *corev1.Pod // with status.podIPs as they are now
	Spec    *corev1.Container
	Node    *Node
	Start   lifecycle.StartContainer
	Image   podruntime.Image
	Sandbox podruntime.Sandbox
	Env     *Env
	Mounts  []podruntime.Mount // volumes, and the kubelet's own files
	Seccomp string             // the profile found for it: see SeccompFile
	Message string             // host path of the termination message file
}

// LogDir is where the logs of a pod are.
func LogDir(n *Node, p *corev1.Pod) string {
	return filepath.Join(n.LogDir, fmt.Sprintf("%s_%s_%s", p.Namespace, p.Name, p.UID))
}

// labels mark everything of a pod.
func labels(p *corev1.Pod) map[string]string {
	return map[string]string{
		podruntime.LabelPodName: p.Name, podruntime.LabelPodNamespace: p.Namespace, podruntime.LabelPodUID: string(p.UID),
	}
}

// Sandbox is what the runtime is asked for as the attempt-th sandbox of a pod.
func Sandbox(p *corev1.Pod, n *Node, attempt int) (podruntime.SandboxSpec, error) {
	sysctls, err := sysctls(p)
	if err != nil {
		return podruntime.SandboxSpec{}, err
	}
	s := podruntime.SandboxSpec{
		ID: lifecycle.SandboxID(p.UID, attempt), Name: p.Name, Namespace: p.Namespace, UID: string(p.UID),
		Hostname: Hostname(p, n), HostNetwork: p.Spec.HostNetwork, HostPID: p.Spec.HostPID, HostIPC: p.Spec.HostIPC,
		SharePID:     p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace,
		CgroupParent: CgroupParent(p), Resources: podResources(p), Sysctls: sysctls, Labels: labels(p), DNS: DNS(p, n),
	}
	if !p.Spec.HostNetwork {
		s.HostPorts = hostPorts(p)
	}
	return s, nil
}

// Container is what the runtime is asked for.
func Container(in Input) (podruntime.ContainerSpec, error) {
	name := in.Spec.Name
	user, err := user(in)
	if err != nil {
		return podruntime.ContainerSpec{}, err
	}
	security, err := security(in)
	if err != nil {
		return podruntime.ContainerSpec{}, err
	}
	l := labels(in.Pod)
	maps.Copy(l, map[string]string{
		podruntime.LabelContainerName: name, podruntime.LabelAttempt: strconv.Itoa(in.Start.Attempt),
		podruntime.LabelKind: string(in.Start.Kind), podruntime.LabelSpecHash: lifecycle.SpecHash(in.Spec),
		podruntime.LabelBackoff: in.Start.Backoff.String(), podruntime.LabelMessagePath: in.Message,
		podruntime.LabelGrace: strconv.FormatInt(int64(grace(in.Pod)/time.Second), 10),
	})
	c := podruntime.ContainerSpec{
		Name:    fmt.Sprintf("k8s_%s_%s_%s_%s_%d", name, in.Pod.Name, in.Pod.Namespace, in.Pod.UID, in.Start.Attempt),
		Sandbox: in.Sandbox.ID, Image: in.Image.ID, ImageRef: in.Spec.Image,
		Command: in.Env.expandAll(in.Spec.Command), Args: in.Env.expandAll(in.Spec.Args), Env: in.Env.List(),
		Dir: in.Spec.WorkingDir, User: user, Groups: groups(in.Pod),
		Terminal: in.Spec.TTY, Stdin: in.Spec.Stdin, StdinOnce: in.Spec.StdinOnce, StopSignal: stopSignal(in.Spec),
		Mounts: in.Mounts, CgroupParent: CgroupParent(in.Pod), Resources: containerResources(in), Security: security,
		LogPath: filepath.Join(LogDir(in.Node, in.Pod), name, strconv.Itoa(in.Start.Attempt)+".log"), Labels: l,
	}
	return c, nil
}

func stopSignal(c *corev1.Container) string {
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		return string(*c.Lifecycle.StopSignal)
	}
	return ""
}

func grace(p *corev1.Pod) time.Duration {
	if g := p.Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}
