// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const podImmutable = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// validatePodUpdate: what runs is not changed by writing; only images, a deadline that comes nearer, more tolerations, and,
// for a pod that still waits at a gate, tighter placement.
func validatePodUpdate(new, old *corev1.Pod) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if len(new.Spec.Containers) != len(old.Spec.Containers) {
		f.forbidden(p.Child("containers"), "pod updates may not add or remove containers")
		return f.list
	}
	if len(new.Spec.InitContainers) != len(old.Spec.InitContainers) {
		f.forbidden(p.Child("initContainers"), "pod updates may not add or remove containers")
		return f.list
	}
	deadlineUpdate(f, p.Child("activeDeadlineSeconds"), new.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds)
	gatesUpdate(f, p.Child("schedulingGates"), new, old)
	tolerationsUpdate(f, p.Child("tolerations"), new.Spec.Tolerations, old.Spec.Tolerations)

	// Everything that may differ is made equal; what is left over may not.
	rest := new.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.Tolerations = old.Spec.Tolerations
	rest.SchedulingGates = old.Spec.SchedulingGates
	if g := old.Spec.TerminationGracePeriodSeconds; g != nil && *g < 0 && rest.TerminationGracePeriodSeconds != nil && *rest.TerminationGracePeriodSeconds == 1 {
		rest.TerminationGracePeriodSeconds = g
	}
	if len(old.Spec.SchedulingGates) > 0 {
		gatedUpdate(f, p, rest, &old.Spec)
	}
	if !equality.Semantic.DeepEqual(rest, &old.Spec) {
		f.forbidden(p, podImmutable+"\n"+diff.Diff(&old.Spec, rest))
	}
	return f.list
}

func deadlineUpdate(f *faults, p *field.Path, new, old *int64) {
	switch {
	case new == nil && old != nil:
		f.invalid(p, new, "must not update from a positive integer to nil value")
	case new != nil && old != nil && *new > *old:
		f.invalid(p, new, "must be less than or equal to previous value")
	}
}

func gatesUpdate(f *faults, p *field.Path, new, old *corev1.Pod) {
	had := sets.New[string]()
	for _, g := range old.Spec.SchedulingGates {
		had.Insert(g.Name)
	}
	for i, g := range new.Spec.SchedulingGates {
		if !had.Has(g.Name) {
			f.forbidden(p.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name))
		}
	}
}

// tolerationsUpdate: tolerations may be added, and only how long they last changed.
func tolerationsUpdate(f *faults, p *field.Path, new, old []corev1.Toleration) {
	for i := range old {
		kept := false
		for j := range new {
			same := new[j]
			same.TolerationSeconds = old[i].TolerationSeconds
			kept = kept || equality.Semantic.DeepEqual(same, old[i])
		}
		if !kept {
			f.forbidden(p, "existing toleration can not be modified except its tolerationSeconds")
			return
		}
	}
}

// gatedUpdate: a pod held by a gate may be given a narrower place to run; what it was told before must still hold. The
// parts that were checked are made equal in rest.
func gatedUpdate(f *faults, p *field.Path, rest, old *corev1.PodSpec) {
	for k, v := range old.NodeSelector {
		if got, ok := rest.NodeSelector[k]; !ok || got != v {
			f.invalid(p.Child("nodeSelector"), rest.NodeSelector, "cannot be modified, only additions are allowed")
			break
		}
	}
	rest.NodeSelector = old.NodeSelector
	if rest.Affinity == nil || rest.Affinity.NodeAffinity == nil {
		return
	}
	had := []corev1.NodeSelectorTerm(nil)
	if old.Affinity != nil && old.Affinity.NodeAffinity != nil && old.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		had = old.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	if r := rest.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; had != nil && !narrowed(r, had) {
		f.invalid(p.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"), "", "only additions are allowed (no mutations or deletions)")
	}
	if old.Affinity == nil || old.Affinity.NodeAffinity == nil {
		rest.Affinity.NodeAffinity = nil
		if old.Affinity == nil && equality.Semantic.DeepEqual(rest.Affinity, &corev1.Affinity{}) {
			rest.Affinity = nil
		}
		return
	}
	rest.Affinity.NodeAffinity = old.Affinity.NodeAffinity
}

// narrowed: each term still begins with all it demanded.
func narrowed(new *corev1.NodeSelector, old []corev1.NodeSelectorTerm) bool {
	if new == nil || len(new.NodeSelectorTerms) != len(old) {
		return false
	}
	begins := func(new, old []corev1.NodeSelectorRequirement) bool {
		return len(new) >= len(old) && equality.Semantic.DeepEqual(new[:len(old)], old)
	}
	for i, t := range new.NodeSelectorTerms {
		if !begins(t.MatchExpressions, old[i].MatchExpressions) || !begins(t.MatchFields, old[i].MatchFields) {
			return false
		}
	}
	return true
}

// validatePodStatus checks a write to the status subresource.
func validatePodStatus(new, old *corev1.Pod) field.ErrorList {
	f := &faults{}
	p := field.NewPath("status")
	s := &new.Status
	if s.NominatedNodeName != "" {
		f.each(p.Child("nominatedNodeName"), s.NominatedNodeName, validation.IsDNS1123Subdomain(s.NominatedNodeName))
	}
	ips := unique{}
	for i, ip := range s.PodIPs {
		validateIP(f, p.Child("podIPs").Index(i), ip.IP)
		ips.check(f, p.Child("podIPs").Index(i), ip.IP)
	}
	if s.PodIP != "" && len(s.PodIPs) > 0 && s.PodIPs[0].IP != s.PodIP {
		f.invalid(p.Child("podIPs").Index(0), s.PodIPs[0].IP, "must be equal to `podIP`")
	}
	for i, c := range s.Conditions {
		f.each(p.Child("conditions").Index(i).Child("type"), string(c.Type), validation.IsQualifiedName(string(c.Type)))
	}
	statusesUpdate(f, p.Child("containerStatuses"), s.ContainerStatuses, old.Status.ContainerStatuses, old.Spec.RestartPolicy)
	return f.list
}

// statusesUpdate: what has ended for good does not come back to life. Containers with a restart policy of their own are
// left to the kubelet, which knows their rules.
func statusesUpdate(f *faults, p *field.Path, new, old []corev1.ContainerStatus, policy corev1.RestartPolicy) {
	if policy == corev1.RestartPolicyAlways {
		return
	}
	for _, was := range old {
		t := was.State.Terminated
		if t == nil || (policy == corev1.RestartPolicyOnFailure && t.ExitCode != 0) {
			continue
		}
		for i, is := range new {
			if is.Name == was.Name && is.State.Terminated == nil && is.RestartCount == was.RestartCount {
				f.forbidden(p.Index(i).Child("state"), "may not be transitioned to non-terminated state")
			}
		}
	}
}
