// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
)

// LimitRange is core/v1 LimitRange: bounds and defaults for the resources of a namespace's objects.
var LimitRange = Kind[corev1.LimitRange]{
	Version: "v1", Name: "LimitRange", Plural: "limitranges", Short: []string{"limits"},
	Validate:     validateLimitRange,
	NoGeneration: true,
	Default:      defaultLimitRange,
	Columns:      []Column[corev1.LimitRange]{nameColumn[corev1.LimitRange](), createdColumn[corev1.LimitRange]()},
}

// defaultLimitRange: a container's default limit is its maximum; its default request the default limit, else the minimum.
func defaultLimitRange(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			roundUp(list)
		}
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		if item.Default == nil {
			item.Default = corev1.ResourceList{}
		}
		if item.DefaultRequest == nil {
			item.DefaultRequest = corev1.ResourceList{}
		}
		fillIn(item.Default, item.Max)
		fillIn(item.DefaultRequest, item.Default)
		fillIn(item.DefaultRequest, item.Min)
	}
}

// fillIn copies what to has not.
func fillIn(to, from corev1.ResourceList) {
	for name, q := range from {
		if _, ok := to[name]; !ok {
			to[name] = q.DeepCopy()
		}
	}
}
