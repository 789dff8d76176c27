// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// StatefulSet is apps/v1 StatefulSet.
var StatefulSet = Kind[appsv1.StatefulSet]{
	Group: "apps", Version: "v1", Name: "StatefulSet", Plural: "statefulsets", Short: []string{"sts"}, Categories: []string{"all"},
	Validate: validateStatefulSet, ValidateUpdate: validateStatefulSetUpdate,
	Served:    statefulSetVersions,
	HasStatus: true,
	Default:   defaultStatefulSet,
	Restore:   nameClaims,
	Columns: append([]Column[appsv1.StatefulSet]{
		nameColumn[appsv1.StatefulSet](),
		text("Ready", "Ready pods, of those wanted.", 0, func(s *appsv1.StatefulSet) string {
			return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, replicas(s.Spec.Replicas))
		}),
		ageColumn[appsv1.StatefulSet](),
	}, templateColumns(func(s *appsv1.StatefulSet) (*corev1.PodSpec, *metav1.LabelSelector) {
		return &s.Spec.Template.Spec, s.Spec.Selector
	})[:2]...),
	Scale: &Scale[appsv1.StatefulSet]{
		Get: func(s *appsv1.StatefulSet) (int32, int32, string) {
			return replicas(s.Spec.Replicas), s.Status.Replicas, selectorText(s.Spec.Selector)
		},
		Set: func(s *appsv1.StatefulSet, n int32) { s.Spec.Replicas = &n },
	},
}

func defaultStatefulSet(o *appsv1.StatefulSet) {
	s := &o.Spec
	or(&s.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	if s.UpdateStrategy.Type == "" {
		s.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		orSet(&s.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	}
	if r := s.UpdateStrategy.RollingUpdate; r != nil && s.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		orSet(&r.Partition, 0)
		orSet(&r.MaxUnavailable, intstr.FromInt32(1))
	}
	orSet(&s.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	or(&s.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	or(&s.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	orSet(&s.Replicas, 1)
	orSet(&s.RevisionHistoryLimit, 10)
	defaultPodSpec(&s.Template.Spec)
	nameClaims(o)
	for i := range s.VolumeClaimTemplates {
		defaultClaim(&s.VolumeClaimTemplates[i])
	}
}

// nameClaims: protobuf has no place for the kind of an object inside an object; in JSON people expect it.
func nameClaims(o *appsv1.StatefulSet) {
	for i := range o.Spec.VolumeClaimTemplates {
		c := &o.Spec.VolumeClaimTemplates[i]
		c.APIVersion, c.Kind = "v1", "PersistentVolumeClaim"
	}
}
