// SPDX-License-Identifier: Apache-2.0

package statefulset

import (
	"fmt"
	"maps"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/reconcile"
)

func claimName(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) string {
	return fmt.Sprintf("%s-%s-%d", template.Name, set.Name, ordinal)
}

// claims makes the claims of a pod that do not exist yet.
func (p *pass) claims(ordinal int) []reconcile.Action {
	var out []reconcile.Action
	for i := range p.Set.Spec.VolumeClaimTemplates {
		t := &p.Set.Spec.VolumeClaimTemplates[i]
		name := claimName(p.Set, t, ordinal)
		if p.Claims[name] != nil {
			continue
		}
		c := t.DeepCopy()
		c.Name, c.Namespace, c.Status = name, p.Set.Namespace, corev1.PersistentVolumeClaimStatus{}
		labels := maps.Clone(p.Set.Spec.Selector.MatchLabels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, c.Labels)
		maps.Copy(labels, p.Set.Spec.Selector.MatchLabels)
		c.Labels = labels
		c.OwnerReferences = p.ownersOf(c, nil)
		pod := podName(p.Set, ordinal)
		out = append(out, reconcile.Create{Object: c, Failed: &reconcile.Event{
			Regarding: p.Set, Type: corev1.EventTypeWarning, Reason: "FailedCreate",
			Message: fmt.Sprintf("create Claim %s Pod %s in StatefulSet %s failed error", name, pod, p.Set.Name),
		}}, reconcile.Event{Regarding: p.Set, Type: corev1.EventTypeNormal, Reason: "SuccessfulCreate",
			Message: fmt.Sprintf("create Claim %s Pod %s in StatefulSet %s success", name, pod, p.Set.Name)})
	}
	return out
}

// retain brings the owners of a pod's claims in line with the retention policy. leaving: the pod is to go because of the number
// of replicas.
func (p *pass) retain(x *corev1.Pod, leaving bool) []reconcile.Action {
	var out []reconcile.Action
	for i := range p.Set.Spec.VolumeClaimTemplates {
		c := p.Claims[claimName(p.Set, &p.Set.Spec.VolumeClaimTemplates[i], ordinal(p.Set, x))]
		if c == nil || c.DeletionTimestamp != nil {
			continue
		}
		var by *corev1.Pod
		if leaving {
			by = x
		}
		if owners := p.ownersOf(c, by); !reflect.DeepEqual(owners, c.OwnerReferences) && len(owners)+len(c.OwnerReferences) > 0 {
			n := c.DeepCopy()
			n.OwnerReferences = owners
			out = append(out, reconcile.Update{Object: n})
		}
	}
	return out
}

// ownersOf are the owners a claim should have: the set when it goes with it, the pod when it goes with a pod that leaves.
func (p *pass) ownersOf(c *corev1.PersistentVolumeClaim, leaving *corev1.Pod) []metav1.OwnerReference {
	var whenDeleted, whenScaled bool
	if r := p.Set.Spec.PersistentVolumeClaimRetentionPolicy; r != nil {
		whenDeleted = r.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		whenScaled = r.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	}
	var want *metav1.OwnerReference
	switch {
	case leaving != nil && whenScaled:
		want = metav1.NewControllerRef(leaving, corev1.SchemeGroupVersion.WithKind("Pod"))
	case whenDeleted:
		want = &metav1.OwnerReference{}
		*want = ownerRef(p.Set)
	}
	var out []metav1.OwnerReference
	for _, r := range c.OwnerReferences {
		switch {
		case want != nil && r.UID == want.UID:
			out, want = append(out, r), nil
		case r.UID == p.Set.UID, r.Kind == "Pod" && r.APIVersion == "v1":
			// ours from before
		default:
			out = append(out, r)
		}
	}
	if want != nil && metav1.GetControllerOfNoCopy(&metav1.ObjectMeta{OwnerReferences: out}) != nil {
		return c.OwnerReferences // somebody else's
	}
	if want != nil {
		out = pods.Adopted(out, *want)
	}
	return out
}

// mount gives a pod its claims as volumes, in place of the template's of the same name.
func mount(set *appsv1.StatefulSet, p *corev1.Pod, ordinal int) {
	var volumes []corev1.Volume
	named := map[string]bool{}
	for i := range set.Spec.VolumeClaimTemplates {
		t := &set.Spec.VolumeClaimTemplates[i]
		named[t.Name] = true
		volumes = append(volumes, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, t, ordinal)},
		}})
	}
	for _, v := range p.Spec.Volumes {
		if !named[v.Name] {
			volumes = append(volumes, v)
		}
	}
	p.Spec.Volumes = volumes
}
