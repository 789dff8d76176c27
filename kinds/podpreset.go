// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/kinds/settings"
)

// PodPreset is settings.k8s.io/v1alpha1 PodPreset: what pods with certain labels get when they are created.
var PodPreset = Kind[settings.PodPreset]{
	Group: settings.GroupName, Version: settings.Version, Name: "PodPreset", Plural: "podpresets",
	Default: func(p *settings.PodPreset) {
		for i := range p.Spec.Volumes {
			defaultVolume(&p.Spec.Volumes[i].VolumeSource)
		}
		c := corev1.Container{Env: p.Spec.Env}
		defaultContainer(&c)
	},
	Validate: validatePodPreset,
	Columns: []Column[settings.PodPreset]{
		nameColumn[settings.PodPreset](),
		ageColumn[settings.PodPreset](),
	},
}

func validatePodPreset(p *settings.PodPreset) field.ErrorList {
	f := &faults{}
	at := field.NewPath("spec")
	s := &p.Spec
	if len(s.Env)+len(s.EnvFrom)+len(s.Volumes)+len(s.VolumeMounts) == 0 {
		f.required(at.Child("volumes", "env", "envFrom", "volumeMounts"), "must specify at least one")
	}
	validateSelector(f, at.Child("selector"), &s.Selector)
	spec := &corev1.PodSpec{Volumes: s.Volumes}
	v := containerRules{faults: f, spec: spec, volumes: validateVolumes(f, at.Child("volumes"), s.Volumes), names: unique{}}
	for i := range s.Env {
		v.env(at.Child("env").Index(i), s.Env[i])
	}
	for i := range s.EnvFrom {
		v.envFrom(at.Child("envFrom").Index(i), s.EnvFrom[i])
	}
	v.mounts(at, &corev1.Container{VolumeMounts: s.VolumeMounts})
	return f.list
}
