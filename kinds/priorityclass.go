// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
)

// PriorityClass is scheduling.k8s.io/v1 PriorityClass: a name for how important pods are.
var PriorityClass = Kind[schedulingv1.PriorityClass]{
	Group: "scheduling.k8s.io", Version: "v1", Name: "PriorityClass", Plural: "priorityclasses", Short: []string{"pc"}, Cluster: true,
	Validate: validatePriorityClass, ValidateUpdate: validatePriorityClassUpdate,
	Served:  []Served[schedulingv1.PriorityClass]{Alike[schedulingv1.PriorityClass, schedulingv1beta1.PriorityClass]("scheduling.k8s.io", "v1beta1", nil, nil)},
	Default: func(c *schedulingv1.PriorityClass) { orSet(&c.PreemptionPolicy, corev1.PreemptLowerPriority) },
	Columns: []Column[schedulingv1.PriorityClass]{
		nameColumn[schedulingv1.PriorityClass](),
		number("Value", "The priority of its pods.", func(c *schedulingv1.PriorityClass) int64 { return int64(c.Value) }),
		flag("Global-Default", "Whether pods without a class get it.", func(c *schedulingv1.PriorityClass) bool { return c.GlobalDefault }),
		ageColumn[schedulingv1.PriorityClass](),
		text("PreemptionPolicy", "Whether its pods evict others.", wide, func(c *schedulingv1.PriorityClass) string {
			return string(either(c.PreemptionPolicy, ""))
		}),
	},
}
