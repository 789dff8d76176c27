// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	schedulingv1alpha3 "k8s.io/api/scheduling/v1alpha3"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pods that are scheduled as a group: the workload, its groups, and groups of groups.
var (
	Workload = Kind[schedulingv1beta1.Workload]{
		Group: "scheduling.k8s.io", Version: "v1beta1", Name: "Workload", Plural: "workloads",
		Validate:     validateWorkload,
		Served:       []Served[schedulingv1beta1.Workload]{Alike[schedulingv1beta1.Workload, schedulingv1alpha3.Workload]("scheduling.k8s.io", "v1alpha3", nil, nil)},
		NoGeneration: true,
		Columns:      []Column[schedulingv1beta1.Workload]{nameColumn[schedulingv1beta1.Workload](), ageColumn[schedulingv1beta1.Workload]()},
	}
	PodGroup = Kind[schedulingv1beta1.PodGroup]{
		Group: "scheduling.k8s.io", Version: "v1beta1", Name: "PodGroup", Plural: "podgroups",
		Validate:  validatePodGroup,
		Served:    []Served[schedulingv1beta1.PodGroup]{Alike[schedulingv1beta1.PodGroup, schedulingv1alpha3.PodGroup]("scheduling.k8s.io", "v1alpha3", nil, nil)},
		HasStatus: true, NoGeneration: true,
		Columns: []Column[schedulingv1beta1.PodGroup]{
			nameColumn[schedulingv1beta1.PodGroup](),
			text("Policy", "Basic: pod by pod; Gang: all or none.", 0, func(g *schedulingv1beta1.PodGroup) string {
				if g.Spec.SchedulingPolicy.Gang != nil {
					return "Gang"
				}
				return "Basic"
			}),
			text("Workload", "The workload it belongs to.", 0, func(g *schedulingv1beta1.PodGroup) string {
				if r := g.Spec.WorkloadRef; r != nil {
					return r.WorkloadName
				}
				return none
			}),
			text("Status", "How far scheduling got.", 0, func(g *schedulingv1beta1.PodGroup) string { return groupState(g.Status.Conditions) }),
			ageColumn[schedulingv1beta1.PodGroup](),
		},
	}
	CompositePodGroup = Kind[schedulingv1alpha3.CompositePodGroup]{
		Group: "scheduling.k8s.io", Version: "v1alpha3", Name: "CompositePodGroup", Plural: "compositepodgroups",
		Validate:  validateCompositeGroup,
		HasStatus: true, NoGeneration: true,
		Columns: []Column[schedulingv1alpha3.CompositePodGroup]{
			nameColumn[schedulingv1alpha3.CompositePodGroup](),
			text("Workload", "The workload it belongs to.", 0, func(g *schedulingv1alpha3.CompositePodGroup) string {
				if r := g.Spec.WorkloadRef; r != nil {
					return r.WorkloadName
				}
				return none
			}),
			text("Status", "How far scheduling got.", 0, func(g *schedulingv1alpha3.CompositePodGroup) string { return groupState(g.Status.Conditions) }),
			ageColumn[schedulingv1alpha3.CompositePodGroup](),
		},
	}
)

func groupState(list []metav1.Condition) string {
	state := "Pending"
	for _, c := range list {
		switch {
		case c.Type == schedulingv1beta1.DisruptionTarget:
			return c.Reason
		case c.Type == schedulingv1beta1.PodGroupInitiallyScheduled && c.Status == metav1.ConditionTrue:
			state = "Scheduled"
		case c.Type == schedulingv1beta1.PodGroupInitiallyScheduled:
			state = "Unschedulable"
		}
	}
	return state
}
