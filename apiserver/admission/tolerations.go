// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// tolerationSeconds is how long a pod stays on a node that is not ready or not reachable, when it says nothing itself.
const tolerationSeconds = 300

// defaultTolerationSeconds lets pods survive five minutes of a node's trouble before they are evicted.
func defaultTolerationSeconds() Step {
	return Step{Name: "DefaultTolerationSeconds", Mutate: func(_ context.Context, r *Request) error {
		pod, ok := r.Object.(*corev1.Pod)
		if !ok || r.Subresource != "" || r.Verb == Delete {
			return nil
		}
		for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
			if tolerated(pod, taint) {
				continue
			}
			seconds := int64(tolerationSeconds)
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
			})
		}
		return nil
	}}
}

func tolerated(pod *corev1.Pod, taint string) bool {
	for _, t := range pod.Spec.Tolerations {
		if (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}
