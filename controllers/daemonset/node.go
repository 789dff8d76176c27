// SPDX-License-Identifier: Apache-2.0

package daemonset

import (
	"maps"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/knarr/knarr/controllers/pods"
)

// suits: a change of a node that can change where pods belong.
func suits(old, new *corev1.Node) bool {
	return !maps.Equal(old.Labels, new.Labels) || !reflect.DeepEqual(old.Spec.Taints, new.Spec.Taints)
}

// belongs says whether a DaemonSet should run on a node, and whether a pod that is there may stay.
func belongs(d *appsv1.DaemonSet, n *corev1.Node) (run, stay bool) {
	spec := &d.Spec.Template.Spec
	if spec.NodeName != "" && spec.NodeName != n.Name {
		return false, false
	}
	if ok, err := nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity).Match(n); err != nil || !ok {
		return false, false
	}
	tolerations := tolerated(spec)
	run, stay = true, true
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || tolerates(tolerations, t) {
			continue
		}
		run = false
		if t.Effect == corev1.TaintEffectNoExecute {
			stay = false
		}
	}
	return run, stay
}

func tolerates(list []corev1.Toleration, t *corev1.Taint) bool {
	for _, x := range list {
		if x.Effect != "" && x.Effect != t.Effect || x.Key != "" && x.Key != t.Key {
			continue
		}
		if x.Operator == corev1.TolerationOpExists || (x.Operator == "" || x.Operator == corev1.TolerationOpEqual) && x.Value == t.Value {
			return true
		}
	}
	return false
}

// tolerated are a template's tolerations, and those that every daemon has: what ails a node is no reason to leave it.
func tolerated(spec *corev1.PodSpec) []corev1.Toleration {
	out := append([]corev1.Toleration(nil), spec.Tolerations...)
	add := func(key string, effect corev1.TaintEffect) {
		want := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		for i := range out {
			if out[i].Key == key && out[i].Effect == effect && out[i].Operator == want.Operator {
				out[i] = want // without its seconds
				return
			}
		}
		out = append(out, want)
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
	return out
}

// nodeOf is the node that a pod is on or is meant for; "" if none is named.
func nodeOf(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// newPod is the pod for a node.
func newPod(d *appsv1.DaemonSet, node, hash string) *corev1.Pod {
	p := pods.FromTemplate(&d.Spec.Template, d.Namespace, ownerRef(d))
	p.GenerateName = d.Name + "-"
	p.Labels = maps.Clone(p.Labels)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.ControllerRevisionHashLabelKey] = hash
	if g := d.Annotations[appsv1.DeprecatedTemplateGeneration]; g != "" {
		p.Labels["pod-template-generation"] = g
	}
	p.Spec.Tolerations = tolerated(&d.Spec.Template.Spec)
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.NodeAffinity == nil {
		p.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	// What the template required of nodes was looked at above.
	p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}
	return p
}
