// SPDX-License-Identifier: Apache-2.0

// Package settings has the Go types of settings.k8s.io/v1alpha1, which k8s.io/api dropped when upstream removed PodPreset.
// The wire form is upstream's of Kubernetes 1.6 to 1.19, in JSON.
//
// The package does no I/O and keeps no state.
package settings

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group; Version its only version.
const (
	GroupName = "settings.k8s.io"
	Version   = "v1alpha1"
)

// GroupVersion is settings.k8s.io/v1alpha1.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: Version}
}

// AddToScheme registers the types.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &PodPreset{}, &PodPresetList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}

// PodPreset is what pods with certain labels get when they are created.
type PodPreset struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec PodPresetSpec `json:"spec,omitempty"`
}

// PodPresetSpec says which pods get what, in their namespace.
type PodPresetSpec struct {
	// Selector chooses the pods, by their labels. An empty one chooses all.
	Selector metav1.LabelSelector `json:"selector,omitempty"`
	// Env is added to every container.
	Env []corev1.EnvVar `json:"env,omitempty"`
	// EnvFrom is added to every container.
	EnvFrom []corev1.EnvFromSource `json:"envFrom,omitempty"`
	// Volumes are added to the pod.
	Volumes []corev1.Volume `json:"volumes,omitempty"`
	// VolumeMounts are added to every container.
	VolumeMounts []corev1.VolumeMount `json:"volumeMounts,omitempty"`
}

// PodPresetList is a list of them.
type PodPresetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []PodPreset `json:"items"`
}

// DeepCopy returns a copy that shares nothing with p.
func (p *PodPreset) DeepCopy() *PodPreset {
	if p == nil {
		return nil
	}
	out := &PodPreset{TypeMeta: p.TypeMeta, Spec: p.Spec.copied()}
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return out
}

// DeepCopyObject is DeepCopy as runtime.Object wants it.
func (p *PodPreset) DeepCopyObject() runtime.Object { return p.DeepCopy() }

// DeepCopyObject returns a copy that shares nothing with l.
func (l *PodPresetList) DeepCopyObject() runtime.Object {
	out := &PodPresetList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopy())
	}
	return out
}

func (s PodPresetSpec) copied() PodPresetSpec {
	var out PodPresetSpec
	s.Selector.DeepCopyInto(&out.Selector)
	for i := range s.Env {
		out.Env = append(out.Env, *s.Env[i].DeepCopy())
	}
	for i := range s.EnvFrom {
		out.EnvFrom = append(out.EnvFrom, *s.EnvFrom[i].DeepCopy())
	}
	for i := range s.Volumes {
		out.Volumes = append(out.Volumes, *s.Volumes[i].DeepCopy())
	}
	for i := range s.VolumeMounts {
		out.VolumeMounts = append(out.VolumeMounts, *s.VolumeMounts[i].DeepCopy())
	}
	return out
}
