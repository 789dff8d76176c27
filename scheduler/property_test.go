// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

// cluster is what the properties are checked against: plain lists, counted anew each time, and nothing of View.
type cluster struct {
	nodes map[string]*corev1.Node
	pods  map[string]*corev1.Pod // with nodeName
}

// allows says in the plainest way whether a node may take a pod.
func (c *cluster) allows(n *corev1.Node, p *corev1.Pod) bool {
	for k, v := range p.Spec.NodeSelector {
		if n.Labels[k] != v {
			return false
		}
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && len(p.Spec.Tolerations) == 0 { // a toleration here tolerates all
			return false
		}
	}
	for _, o := range c.pods {
		if o.Spec.NodeName == n.Name && len(hostPorts(o)) > 0 && len(hostPorts(p)) > 0 { // there is one port here
			return false
		}
	}
	cpu, memory, count := c.asked(n.Name)
	own := kinds.PodRequests(&p.Spec)
	room := n.Status.Allocatable
	ownCPU, ownMemory := own.Cpu().MilliValue(), own.Memory().Value()
	return !n.Spec.Unschedulable && count < room.Pods().Value() &&
		(ownCPU == 0 || cpu+ownCPU <= room.Cpu().MilliValue()) && (ownMemory == 0 || memory+ownMemory <= room.Memory().Value())
}

func (c *cluster) asked(node string) (cpu, memory, count int64) {
	for _, p := range c.pods {
		if p.Spec.NodeName == node {
			r := kinds.PodRequests(&p.Spec)
			cpu, memory, count = cpu+r.Cpu().MilliValue(), memory+r.Memory().Value(), count+1
		}
	}
	return cpu, memory, count
}

func drawNode(t *rapid.T, name string) *corev1.Node {
	n := node(name, label("disk", rapid.SampledFrom([]string{"ssd", "hdd"}).Draw(t, "disk")), func(n *corev1.Node) {
		n.Status.Allocatable = list("cpu", fmt.Sprintf("%dm", rapid.IntRange(0, 2000).Draw(t, "cpu")),
			"memory", fmt.Sprintf("%dMi", rapid.IntRange(0, 2000).Draw(t, "memory")), "pods", fmt.Sprint(rapid.IntRange(0, 6).Draw(t, "pods")))
		n.Spec.Unschedulable = rapid.IntRange(0, 9).Draw(t, "cordoned") == 0
	})
	if rapid.IntRange(0, 3).Draw(t, "tainted") == 0 {
		effect := rapid.SampledFrom([]corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule})
		taint("k", "v", effect.Draw(t, "effect"))(n)
	}
	return n
}

func drawPod(t *rapid.T, name string) *corev1.Pod {
	p := pod(name, asks("cpu", fmt.Sprintf("%dm", rapid.IntRange(0, 900).Draw(t, "cpu")), "memory", fmt.Sprintf("%dMi", rapid.IntRange(0, 900).Draw(t, "memory"))))
	if rapid.Bool().Draw(t, "init") {
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Resources: corev1.ResourceRequirements{Requests: list("cpu", fmt.Sprintf("%dm", rapid.IntRange(0, 900).Draw(t, "icpu")))}}}
		if rapid.Bool().Draw(t, "sidecar") {
			always := corev1.ContainerRestartPolicyAlways
			p.Spec.InitContainers[0].RestartPolicy = &always
		}
	}
	if rapid.Bool().Draw(t, "overhead") {
		p.Spec.Overhead = list("cpu", "50m")
	}
	if rapid.IntRange(0, 3).Draw(t, "port") == 0 {
		hostPorts2("", 80)(p)
	}
	if rapid.Bool().Draw(t, "owned") {
		ownedBy("rs")(p)
	}
	if rapid.IntRange(0, 2).Draw(t, "selects") == 0 {
		p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	}
	if rapid.IntRange(0, 2).Draw(t, "tolerates") == 0 {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}
	}
	return p
}

func TestAPodIsPlacedExactlyWhereTheRulesAllow(t *testing.T) {
	empty := reconciletest.New(t.Context(), time.Now).Cache.Snapshot()
	rapid.Check(t, func(t *rapid.T) {
		v := NewView(empty)
		c := &cluster{nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}}
		some := rapid.SampledFrom([]string{"a", "b", "c"})
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"node appears or changes": func(t *rapid.T) {
				n := drawNode(t, some.Draw(t, "name"))
				c.nodes[n.Name] = n
				v.setNode(n)
			},
			"node goes": func(t *rapid.T) {
				name := some.Draw(t, "name")
				delete(c.nodes, name)
				v.removeNode(name)
			},
			"pod ends": func(t *rapid.T) {
				name := fmt.Sprint("p", rapid.IntRange(0, 20).Draw(t, "pod"))
				if p := c.pods[name]; p != nil {
					delete(c.pods, name)
					v.removePod(p.UID)
				}
			},
			"pod is placed": func(t *rapid.T) {
				p := drawPod(t, fmt.Sprint("p", next))
				next++
				check(t, c, v, p)
			},
			"": func(t *rapid.T) { // the sums are those of a count
				for name, n := range v.nodes {
					owned, ports, l := 0, 0, load{}
					for _, p := range c.pods {
						if p.Spec.NodeName != name {
							continue
						}
						ports += len(hostPorts(p))
						if len(p.OwnerReferences) > 0 {
							owned++
						}
						one := loadOf(requested(p))
						l.cpu, l.memory = l.cpu+one.cpu, l.memory+one.memory
					}
					if n.owners["rs"] != owned || len(n.ports) != ports || n.load != l {
						t.Fatalf("node %s: %v %v %v, a count %d, %d, %v", name, n.owners, n.ports, n.load, owned, ports, l)
					}
					cpu, memory, count := c.asked(name)
					if n.used[corev1.ResourceCPU] != cpu || n.used[corev1.ResourceMemory] != memory || int64(len(n.pods)) != count {
						t.Fatalf("node %s: the view has %v in %d pods, a count %d, %d in %d", name, n.used, len(n.pods), cpu, memory, count)
					}
				}
				if v.Len() != len(c.nodes) {
					t.Fatalf("%d nodes, want %d", v.Len(), len(c.nodes))
				}
			},
		})
	})
}

// check places a pod and holds the answer against the plain rules: no node that is not allowed, none refused that is.
func check(t *rapid.T, c *cluster, v *View, p *corev1.Pod) {
	got, reasons := Place(v, p)
	if again, _ := Place(v, p); again != got {
		t.Fatalf("first %q, then %q", got, again)
	}
	if got == "" {
		refused := map[string]bool{}
		for _, r := range reasons {
			refused[r.Node] = true
		}
		for name, n := range c.nodes {
			if c.allows(n, p) || !refused[name] {
				t.Fatalf("node %s: allowed %t, refused with a reason %t", name, c.allows(n, p), refused[name])
			}
		}
		return
	}
	if n := c.nodes[got]; n == nil || !c.allows(n, p) {
		t.Fatalf("placed on %q, which may not have it", got)
	}
	v.place(p, got)
	p.Spec.NodeName = got
	c.pods[p.Name] = p
}
