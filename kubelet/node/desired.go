// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// Config of a Reporter.
type Config struct {
	Name             string
	IPs              []netip.Addr
	Labels           map[string]string
	Taints           []corev1.Taint
	MaxPods          int
	Version, Runtime string
	Port             int
	DataDir          string
}

// Capacity is what the node has.
func Capacity(f Facts, maxPods int) corev1.ResourceList {
	bytes := func(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.BinarySI) }
	l := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(f.CPUs), resource.DecimalSI),
		corev1.ResourceMemory:           bytes(f.Memory >> 10 << 10),
		corev1.ResourceEphemeralStorage: bytes(f.Disk >> 10 << 10),
		corev1.ResourcePods:             *resource.NewQuantity(int64(maxPods), resource.DecimalSI),
	}
	for size, n := range f.HugePages {
		l[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size)] = bytes(n)
	}
	return l
}

// What is kept back from pods, as upstream's eviction thresholds do.
const (
	memoryKept = 100 << 20
	diskKept   = 10 // percent
)

// Allocatable is what pods may ask for.
func Allocatable(capacity corev1.ResourceList) corev1.ResourceList {
	l := capacity.DeepCopy()
	less := func(name corev1.ResourceName, n int64) {
		q := l[name]
		q.Set(max(q.Value()-n, 0))
		l[name] = q
	}
	less(corev1.ResourceMemory, memoryKept)
	disk := l[corev1.ResourceEphemeralStorage]
	less(corev1.ResourceEphemeralStorage, disk.Value()/100*diskKept)
	return l
}

// labels that every node has.
func labels(c Config, f Facts) map[string]string {
	l := map[string]string{
		corev1.LabelHostname: c.Name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: f.Arch,
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": f.Arch,
	}
	maps.Copy(l, c.Labels)
	return l
}

// Desired is the object to register with.
func Desired(c Config, f Facts) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: c.Name, Labels: labels(c, f),
			Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
		Spec: corev1.NodeSpec{Taints: c.Taints},
	}
}

// maxImages is how many images a status names, the largest first.
const maxImages = 50

// Status is the node's status after old; what others own in old is kept.
func Status(c Config, f Facts, h Health, images []podruntime.Image, old *corev1.NodeStatus, now time.Time) corev1.NodeStatus {
	st := *old.DeepCopy()
	st.Capacity = Capacity(f, c.MaxPods)
	st.Allocatable = Allocatable(st.Capacity)
	st.NodeInfo = corev1.NodeSystemInfo{
		MachineID: f.MachineID, SystemUUID: f.SystemUUID, BootID: f.BootID, KernelVersion: f.Kernel, OSImage: f.OSImage,
		ContainerRuntimeVersion: c.Runtime, KubeletVersion: c.Version, OperatingSystem: "linux", Architecture: f.Arch,
	}
	st.Addresses = nil
	for _, ip := range c.IPs {
		st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: cmp.Or(f.Hostname, c.Name)})
	st.DaemonEndpoints.KubeletEndpoint.Port = int32(c.Port)
	st.Images = imageList(images)
	for _, cond := range conditions(h) {
		setCondition(&st, cond, now)
	}
	return st
}

func imageList(images []podruntime.Image) []corev1.ContainerImage {
	images = slices.SortedFunc(slices.Values(images), func(a, b podruntime.Image) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID))
	})
	var out []corev1.ContainerImage
	for _, img := range images {
		names := slices.Concat(img.Digests, img.Names)
		if len(names) > 0 && len(out) < maxImages {
			out = append(out, corev1.ContainerImage{Names: names[:min(len(names), 5)], SizeBytes: img.Size})
		}
	}
	return out
}

func conditions(h Health) []corev1.NodeCondition {
	pressure := func(t corev1.NodeConditionType, bad bool, yes, no [2]string) corev1.NodeCondition {
		if bad {
			return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: yes[0], Message: yes[1]}
		}
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: no[0], Message: no[1]}
	}
	// A share of the disk alone would call a large disk full that has room for years.
	disk := h.DiskTotal > 0 && h.DiskAvailable < min(h.DiskTotal/20, 5<<30) || h.Inodes > 0 && h.InodesFree < h.Inodes/20
	out := []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, h.MemoryAvailable < memoryKept,
			[2]string{"KubeletHasInsufficientMemory", "kubelet has insufficient memory available"},
			[2]string{"KubeletHasSufficientMemory", "kubelet has sufficient memory available"}),
		pressure(corev1.NodeDiskPressure, disk,
			[2]string{"KubeletHasDiskPressure", "kubelet has disk pressure"},
			[2]string{"KubeletHasNoDiskPressure", "kubelet has no disk pressure"}),
		pressure(corev1.NodePIDPressure, h.MaxTasks > 0 && h.MaxTasks-h.Tasks < h.MaxTasks/10,
			[2]string{"KubeletHasInsufficientPID", "kubelet has insufficient PID available"},
			[2]string{"KubeletHasSufficientPID", "kubelet has sufficient PID available"}),
	}
	not := ""
	switch {
	case h.Runtime != nil:
		not = fmt.Sprintf("the container runtime does not answer: %v", h.Runtime)
	case h.Network != nil:
		not = fmt.Sprintf("the pods' network is not ready: %v", h.Network)
	}
	if not != "" {
		return append(out, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: not})
	}
	return append(out, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		Message: "kubelet is posting ready status"})
}

func setCondition(st *corev1.NodeStatus, c corev1.NodeCondition, now time.Time) {
	at := metav1.NewTime(now.Truncate(time.Second))
	c.LastHeartbeatTime, c.LastTransitionTime = at, at
	i := slices.IndexFunc(st.Conditions, func(x corev1.NodeCondition) bool { return x.Type == c.Type })
	if i < 0 {
		st.Conditions = append(st.Conditions, c)
		return
	}
	if st.Conditions[i].Status == c.Status {
		c.LastTransitionTime = st.Conditions[i].LastTransitionTime
	}
	st.Conditions[i] = c
}
