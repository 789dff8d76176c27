// SPDX-License-Identifier: Apache-2.0

package statefulset

import (
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/controllers/revisions"
	"github.com/knarr/knarr/state/reconcile"
)

func podName(set *appsv1.StatefulSet, ordinal int) string {
	return set.Name + "-" + strconv.Itoa(ordinal)
}

// partition is the first ordinal that a rolling update may touch.
func partition(set *appsv1.StatefulSet) int {
	r := set.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.Partition == nil {
		return 0
	}
	return int(*r.Partition)
}

// create makes the pod of an ordinal: below the partition of the revision that was, else of the one to be.
func (p *pass) create(n int) []reconcile.Action {
	of := p.update
	if p.Set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && n < partition(p.Set) {
		of = p.current
	}
	t := &p.Set.Spec.Template
	if of != p.update {
		var err error
		if t, err = revisions.Template(of); err != nil {
			return []reconcile.Action{p.event(corev1.EventTypeWarning, "FailedCreate", err.Error())}
		}
	}
	x := pods.FromTemplate(t, p.Set.Namespace, ownerRef(p.Set))
	x.Name = podName(p.Set, n)
	name(x, n)
	x.Labels[appsv1.ControllerRevisionHashLabelKey] = of.Name
	x.Spec.Hostname, x.Spec.Subdomain = x.Name, p.Set.Spec.ServiceName
	mount(p.Set, x, n)
	return []reconcile.Action{
		reconcile.Create{Object: x, Failed: &reconcile.Event{Regarding: p.Set, Type: corev1.EventTypeWarning, Reason: "FailedCreate",
			Message: fmt.Sprintf("create Pod %s in StatefulSet %s failed error", x.Name, p.Set.Name)}},
		p.event(corev1.EventTypeNormal, "SuccessfulCreate", fmt.Sprintf("create Pod %s in StatefulSet %s successful", x.Name, p.Set.Name)),
	}
}

// name puts the labels on a pod that say which one it is.
func name(x *corev1.Pod, ordinal int) {
	x.Labels = maps.Clone(x.Labels)
	if x.Labels == nil {
		x.Labels = map[string]string{}
	}
	x.Labels[appsv1.StatefulSetPodNameLabel] = x.Name
	x.Labels[appsv1.PodIndexLabel] = strconv.Itoa(ordinal)
}

func named(x *corev1.Pod, ordinal int) bool {
	return x.Labels[appsv1.StatefulSetPodNameLabel] == x.Name && x.Labels[appsv1.PodIndexLabel] == strconv.Itoa(ordinal)
}

func (p *pass) is(x *corev1.Pod, r *appsv1.ControllerRevision) bool {
	return x.Labels[appsv1.ControllerRevisionHashLabelKey] == r.Name
}

// roll deletes pods of older revisions, highest ordinal first, while few enough are missing.
func (p *pass) roll() bool {
	if p.Set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return true
	}
	budget := 1
	if r := p.Set.Spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxUnavailable != nil {
		n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, len(p.wanted), true)
		if err == nil {
			budget = max(1, n)
		}
	}
	for i := len(p.wanted) - 1; i >= 0 && first(p.Set)+i >= partition(p.Set) && budget > 0; i-- {
		switch x := p.wanted[i]; {
		case x == nil:
			budget--
		case !p.is(x, p.update) && x.DeletionTimestamp == nil:
			p.remove(x, "its template is not the newest")
			budget--
		case !p.available(x):
			budget--
		}
	}
	return true
}

// status counts the pods as they are.
func (p *pass) status() appsv1.StatefulSetStatus {
	st := *p.Set.Status.DeepCopy()
	st.ObservedGeneration = p.Set.Generation
	st.Replicas, st.ReadyReplicas, st.AvailableReplicas, st.CurrentReplicas, st.UpdatedReplicas = 0, 0, 0, 0, 0
	st.CurrentRevision, st.UpdateRevision = p.current.Name, p.update.Name
	if st.CollisionCount == nil {
		st.CollisionCount = new(int32)
	}
	for _, x := range p.Pods {
		st.Replicas++
		if works(x) {
			st.ReadyReplicas++
			if p.available(x) {
				st.AvailableReplicas++
			}
		}
		if x.DeletionTimestamp != nil {
			continue
		}
		if p.is(x, p.current) {
			st.CurrentReplicas++
		}
		if p.is(x, p.update) {
			st.UpdatedReplicas++
		}
	}
	done := st.UpdatedReplicas == st.Replicas && st.ReadyReplicas == st.Replicas && int(st.Replicas) == len(p.wanted)
	if p.Set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && done {
		st.CurrentRevision, st.CurrentReplicas = st.UpdateRevision, st.UpdatedReplicas
	}
	return st
}
