// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/naming"
)

func setName(d *appsv1.Deployment) string {
	return d.Name + "-" + naming.TemplateHash(&d.Spec.Template, d.Status.CollisionCount)
}

// sameTemplate compares without the label that the hash itself adds.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := *a, *b
	x.Labels, y.Labels = withoutHash(a.Labels), withoutHash(b.Labels)
	return equality.Semantic.DeepEqual(x, y)
}

func withoutHash(l map[string]string) map[string]string {
	if _, ok := l[appsv1.DefaultDeploymentUniqueLabelKey]; !ok {
		return l
	}
	l = maps.Clone(l)
	delete(l, appsv1.DefaultDeploymentUniqueLabelKey)
	return l
}

// findNew is the ReplicaSet of the Deployment's present template: the oldest, should there be several.
func findNew(d *appsv1.Deployment, oldestFirst []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, rs := range oldestFirst {
		if sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	return nil
}

// newSet is a ReplicaSet for the present template.
func newSet(d *appsv1.Deployment, replicas int32, revision string) *appsv1.ReplicaSet {
	hash := naming.TemplateHash(&d.Spec.Template, d.Status.CollisionCount)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: setName(d),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, MinReadySeconds: d.Spec.MinReadySeconds,
			Selector: d.Spec.Selector.DeepCopy(), Template: *d.Spec.Template.DeepCopy(),
		},
	}
	rs.Spec.Template.Labels = maps.Clone(rs.Spec.Template.Labels)
	if rs.Spec.Template.Labels == nil {
		rs.Spec.Template.Labels = map[string]string{}
	}
	rs.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	rs.Labels = maps.Clone(rs.Spec.Template.Labels)
	if rs.Spec.Selector.MatchLabels == nil {
		rs.Spec.Selector.MatchLabels = map[string]string{}
	}
	rs.Spec.Selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	rs.Annotations = setAnnotations(d, nil, revision)
	noteSize(rs, d)
	return rs
}
