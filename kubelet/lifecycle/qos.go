// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kinds"
)

// QOS is a pod's quality-of-service class: what the API has recorded, else worked out from the resources.
func QOS(p *corev1.Pod) corev1.PodQOSClass {
	if p.Status.QOSClass != "" {
		return p.Status.QOSClass
	}
	return kinds.QOSClass(&p.Spec)
}
