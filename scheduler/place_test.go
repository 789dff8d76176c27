// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func node(name string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status:     corev1.NodeStatus{Allocatable: list("cpu", "2", "memory", "4Gi", "pods", "10")},
	}
	for _, e := range edit {
		e(n)
	}
	return n
}

func taint(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

func label(k, v string) func(*corev1.Node) { return func(n *corev1.Node) { n.Labels[k] = v } }

func pod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web"}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func asks(pairs ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list(pairs...) }
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func ownedBy(uid string) func(*corev1.Pod) {
	yes := true
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: uid, UID: types.UID(uid), Controller: &yes}}
	}
}

func hostPorts2(ip string, port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: port, HostPort: port, HostIP: ip, Protocol: corev1.ProtocolTCP}}
	}
}

func tolerates(t corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, t) }
}

func view(t testing.TB, objects ...kinds.Object) *View {
	return NewView(reconciletest.New(t.Context(), time.Now, objects...).Cache.Snapshot())
}

func TestFilters(t *testing.T) {
	exists := corev1.Toleration{Operator: corev1.TolerationOpExists}
	for _, x := range []struct {
		rule    string
		objects []kinds.Object
		pod     *corev1.Pod
		want    string // a node, or the summary
	}{
		{"there are no nodes", nil, pod("p"), "no nodes available to schedule pods"},
		{"a pod that asks for nothing fits", []kinds.Object{node("a")}, pod("p"), "a"},
		{"what is free counts", []kinds.Object{node("a"), pod("x", on("a"), asks("cpu", "1500m"))}, pod("p", asks("cpu", "600m")),
			"0/1 nodes are available: 1 Insufficient cpu."},
		{"all that is missing is told", []kinds.Object{node("a")}, pod("p", asks("cpu", "3", "memory", "5Gi", "gpu", "1")),
			"0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient gpu, 1 Insufficient memory."},
		{"what fits exactly fits", []kinds.Object{node("a")}, pod("p", asks("cpu", "2", "memory", "4Gi")), "a"},
		{"pods that ended take nothing", []kinds.Object{node("a"), pod("x", on("a"), asks("cpu", "2"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })},
			pod("p", asks("cpu", "1")), "a"},
		{"the number of pods is bounded", []kinds.Object{node("a", func(n *corev1.Node) { n.Status.Allocatable = list("pods", "1", "cpu", "2") }), pod("x", on("a"))}, pod("p"),
			"0/1 nodes are available: 1 Too many pods."},
		{"cordoned", []kinds.Object{node("a", func(n *corev1.Node) { n.Spec.Unschedulable = true })}, pod("p"),
			"0/1 nodes are available: 1 node(s) were unschedulable."},
		{"cordoned but tolerated", []kinds.Object{node("a", func(n *corev1.Node) { n.Spec.Unschedulable = true })}, pod("p", tolerates(exists)), "a"},
		{"selector", []kinds.Object{node("a"), node("b", label("disk", "ssd"))}, pod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), "b"},
		{"selector of nobody", []kinds.Object{node("a")}, pod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
			"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."},
		{"required affinity", []kinds.Object{node("a", label("zone", "x")), node("b", label("zone", "y"))}, pod("p", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"x"}}}}},
			}}}
		}), "b"},
		{"taints are counted by kind", []kinds.Object{node("a"), node("b", taint("k", "v", corev1.TaintEffectNoSchedule)), node("c", taint("k", "v", corev1.TaintEffectNoExecute))},
			pod("p", asks("cpu", "5")), "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}."},
		{"a toleration of the value", []kinds.Object{node("a", taint("k", "v", corev1.TaintEffectNoSchedule))}, pod("p", tolerates(corev1.Toleration{Key: "k", Value: "v"})), "a"},
		{"a toleration of another value", []kinds.Object{node("a", taint("k", "v", corev1.TaintEffectNoSchedule))}, pod("p", tolerates(corev1.Toleration{Key: "k", Value: "w"})),
			"0/1 nodes are available: 1 node(s) had untolerated taint {k: v}."},
		{"a toleration of another effect", []kinds.Object{node("a", taint("k", "v", corev1.TaintEffectNoSchedule))},
			pod("p", tolerates(corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})),
			"0/1 nodes are available: 1 node(s) had untolerated taint {k: v}."},
		{"host ports", []kinds.Object{node("a"), pod("x", on("a"), hostPorts2("", 80))}, pod("p", hostPorts2("127.0.0.1", 80)),
			"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
		{"host ports of other addresses", []kinds.Object{node("a"), pod("x", on("a"), hostPorts2("10.0.0.1", 80))}, pod("p", hostPorts2("127.0.0.1", 80)), "a"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			v := view(t, x.objects...)
			got, reasons := Place(v, x.pod)
			if got == "" {
				got = Summary(v.Len(), reasons)
			}
			if got != x.want {
				t.Errorf("got %q, want %q", got, x.want)
			}
		})
	}
}

func TestScores(t *testing.T) {
	for _, x := range []struct {
		rule    string
		objects []kinds.Object
		pod     *corev1.Pod
		want    string
	}{
		{"the emptier node", []kinds.Object{node("a"), node("b"), pod("x", on("a"), asks("cpu", "1"))}, pod("p", asks("cpu", "100m")), "b"},
		{"away from its siblings, though it is fuller there", []kinds.Object{node("a"), node("b"), pod("x", on("a"), ownedBy("rs")), pod("y", on("b"), asks("cpu", "1"))},
			pod("p", ownedBy("rs")), "b"},
		{"another zone", []kinds.Object{
			node("a", label(corev1.LabelTopologyZone, "z1")), node("b", label(corev1.LabelTopologyZone, "z1")), node("c", label(corev1.LabelTopologyZone, "z2")),
			pod("x", on("a"), ownedBy("rs")), pod("y", on("c"))}, pod("p", ownedBy("rs")), "c"},
		{"not where it is asked to be avoided", []kinds.Object{node("a", taint("k", "v", corev1.TaintEffectPreferNoSchedule)), node("b"), pod("x", on("b"), asks("cpu", "1"))},
			pod("p"), "b"},
		{"where it prefers", []kinds.Object{node("a", label("disk", "ssd")), node("b"), pod("x", on("a"), asks("cpu", "1"))}, pod("p", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 10, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpExists}}}}}}}
		}), "a"},
		{"where the image is", []kinds.Object{node("a", func(n *corev1.Node) {
			n.Status.Images = []corev1.ContainerImage{{Names: []string{"docker.io/library/web:latest"}, SizeBytes: 900 << 20}}
		}), node("b"), pod("x", on("a"), asks("cpu", "100m"))}, pod("p"), "a"},
		{"what an administrator avoids weighs more than what the pod prefers", []kinds.Object{
			node("a", label("disk", "ssd"), taint("k", "v", corev1.TaintEffectPreferNoSchedule)), node("b"), pod("x", on("b"), asks("cpu", "1"))},
			pod("p", func(p *corev1.Pod) {
				p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
					Weight: 10, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpExists}}}}}}}
			}), "b"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			if got, why := Place(view(t, x.objects...), x.pod); got != x.want {
				t.Errorf("got %q %v, want %q", got, why, x.want)
			}
		})
	}
}

func TestReplicasSpreadEvenly(t *testing.T) {
	v := view(t, node("a"), node("b"), node("c"))
	count := map[string]int{}
	for i := range 9 {
		p := pod(fmt.Sprint("p", i), ownedBy("rs"), asks("cpu", "10m"))
		n, _ := Place(v, p)
		v.place(p, n)
		count[n]++
	}
	if count["a"] != 3 || count["b"] != 3 || count["c"] != 3 {
		t.Errorf("%v", count)
	}
}

func TestTheViewForgetsWhatIsGone(t *testing.T) {
	v := view(t, node("a"), pod("x", on("a"), asks("cpu", "2")), pod("lost", on("unknown")))
	if n, _ := Place(v, pod("p", asks("cpu", "1"))); n != "" {
		t.Fatal("it is full")
	}
	v.removePod("x")
	if n, _ := Place(v, pod("p", asks("cpu", "1"))); n != "a" {
		t.Fatal("there is room")
	}
	v.removePod("lost")
	v.removeNode("a")
	if len(v.nodes) != 0 || len(v.where) != 0 || v.Len() != 0 {
		t.Errorf("%v %v", v.nodes, v.where)
	}
}

func TestDetailsAreBounded(t *testing.T) {
	var reasons []Reason
	for i := range 200 {
		reasons = append(reasons, Reason{fmt.Sprintf("node-%03d", i), "Insufficient cpu"})
	}
	got := Details(200, reasons)
	if len(got) > maxMessage+10 || !strings.HasPrefix(got, "0/200 nodes are available: 200 Insufficient cpu. node-000: Insufficient cpu. node-001:") || !strings.HasSuffix(got, "…") {
		t.Errorf("%q", got)
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, nodes := range []int{1, 100, 1000} {
		var objects []kinds.Object
		for i := range nodes {
			objects = append(objects, node(fmt.Sprintf("n%04d", i)))
			for j := range 5 {
				objects = append(objects, pod(fmt.Sprintf("x%d-%d", i, j), on(fmt.Sprintf("n%04d", i)), asks("cpu", "10m", "memory", "10Mi"), labelled("app", "x")))
			}
		}
		v := view(b, objects...)
		for name, p := range map[string]*corev1.Pod{
			"plain":  pod("p", ownedBy("rs"), asks("cpu", "10m", "memory", "10Mi")),
			"spread": pod("p", ownedBy("rs"), asks("cpu", "10m", "memory", "10Mi"), evenly(corev1.LabelHostname, 1, corev1.DoNotSchedule), labelled("app", "x")),
		} {
			b.Run(fmt.Sprintf("%s/nodes=%d", name, nodes), func(b *testing.B) {
				for b.Loop() {
					Place(v, p)
				}
			})
		}
	}
}
