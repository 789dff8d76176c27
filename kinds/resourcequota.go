// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ResourceQuota is core/v1 ResourceQuota: how much a namespace may use in all.
var ResourceQuota = Kind[corev1.ResourceQuota]{
	Version: "v1", Name: "ResourceQuota", Plural: "resourcequotas", Short: []string{"quota"},
	Validate:       validateQuota,
	ValidateUpdate: validateQuotaUpdate,
	ValidateStatus: validateQuotaStatus,
	HasStatus:      true, NoGeneration: true,
	Default: func(q *corev1.ResourceQuota) {
		roundUp(q.Spec.Hard)
		roundUp(q.Status.Hard)
		roundUp(q.Status.Used)
	},
	Columns: []Column[corev1.ResourceQuota]{
		nameColumn[corev1.ResourceQuota](),
		text("Request", "Used of what may be requested or made.", 0, func(q *corev1.ResourceQuota) string { return quotaUse(q, false) }),
		text("Limit", "Used of what limits may sum up to.", 0, func(q *corev1.ResourceQuota) string { return quotaUse(q, true) }),
		ageColumn[corev1.ResourceQuota](),
	},
}

func quotaUse(q *corev1.ResourceQuota, limits bool) string {
	list := []string{}
	for _, name := range sortedNames(q.Status.Hard) {
		if strings.HasPrefix(string(name), "limits.") == limits {
			used, hard := q.Status.Used[name], q.Status.Hard[name]
			list = append(list, fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String()))
		}
	}
	return strings.Join(list, ", ")
}
