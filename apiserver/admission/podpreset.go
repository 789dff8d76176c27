// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/kinds/settings"
	"github.com/knarr/knarr/state/cache"
)

const (
	presetMark    = "podpreset.admission.kubernetes.io/"
	presetExclude = presetMark + "exclude"
)

// podPreset gives new pods what the PodPresets of their namespace that select them say. Several are merged. If two of them,
// or one and the pod, want different things of the same name, the pod stays as it is and an event says why: half of a preset
// would be worse than none.
func podPreset(state cache.Reader, tell func(kinds.Object, string, string)) Step {
	return Step{Name: "PodPreset", Mutate: func(_ context.Context, r *Request) error {
		pod, ok := newPod(r)
		if !ok || pod.Annotations[presetExclude] == "true" || pod.Annotations[corev1.MirrorPodAnnotationKey] != "" {
			return nil
		}
		presets := selecting(state.Snapshot(), r.Namespace, pod)
		presets = slices.DeleteFunc(presets, func(p *settings.PodPreset) bool {
			_, done := pod.Annotations[presetMark+"podpreset-"+p.Name]
			return done
		})
		if len(presets) == 0 {
			return nil
		}
		next, err := withPresets(pod, presets)
		if err != nil {
			var names []string
			for _, p := range presets {
				names = append(names, p.Name)
			}
			if tell != nil && !r.DryRun {
				tell(pod.DeepCopy(), "PodPreset", fmt.Sprintf("conflict occurred while applying podpresets: %s on pod: %s err: %v", strings.Join(names, ","), pod.GetGenerateName()+pod.Name, err))
			}
			return nil
		}
		*pod = *next
		return nil
	}}
}

// selecting are the presets that select the pod, by name.
func selecting(s *cache.Snapshot, namespace string, pod *corev1.Pod) (out []*settings.PodPreset) {
	for p := range cache.List[settings.PodPreset](s, namespace) {
		sel, err := metav1.LabelSelectorAsSelector(&p.Spec.Selector)
		if err == nil && sel.Matches(labels.Set(pod.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// withPresets is a copy of the pod with all presets applied, or the conflicts.
func withPresets(pod *corev1.Pod, presets []*settings.PodPreset) (*corev1.Pod, error) {
	next := pod.DeepCopy()
	var faults []error
	for _, p := range presets {
		for _, v := range p.Spec.Volumes {
			if err := mergeVolume(&next.Spec, v); err != nil {
				faults = append(faults, fmt.Errorf("merging volumes for %s has a conflict: %w", p.Name, err))
			}
		}
		for _, list := range [][]corev1.Container{next.Spec.InitContainers, next.Spec.Containers} {
			for i := range list {
				faults = append(faults, intoContainer(&list[i], p)...)
			}
		}
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, presetMark+"podpreset-"+p.Name, p.ResourceVersion)
	}
	if len(faults) > 0 {
		return nil, aggregate(faults)
	}
	return next, nil
}

func mergeVolume(spec *corev1.PodSpec, v corev1.Volume) error {
	for _, have := range spec.Volumes {
		if have.Name == v.Name {
			if equality.Semantic.DeepEqual(have, v) {
				return nil
			}
			return fmt.Errorf("there are two different volumes %s", v.Name)
		}
	}
	spec.Volumes = append(spec.Volumes, *v.DeepCopy())
	return nil
}

func intoContainer(c *corev1.Container, p *settings.PodPreset) (faults []error) {
	for _, e := range p.Spec.Env {
		i := slices.IndexFunc(c.Env, func(x corev1.EnvVar) bool { return x.Name == e.Name })
		switch {
		case i < 0:
			c.Env = append(c.Env, *e.DeepCopy())
		case !equality.Semantic.DeepEqual(c.Env[i], e):
			faults = append(faults, fmt.Errorf("merging env for %s has a conflict on %s: there are two different values in container %s", p.Name, e.Name, c.Name))
		}
	}
	for _, e := range p.Spec.EnvFrom {
		if !slices.ContainsFunc(c.EnvFrom, func(x corev1.EnvFromSource) bool { return equality.Semantic.DeepEqual(x, e) }) {
			c.EnvFrom = append(c.EnvFrom, *e.DeepCopy())
		}
	}
	for _, m := range p.Spec.VolumeMounts {
		// The path is what two mounts cannot share; one volume may be mounted twice.
		i := slices.IndexFunc(c.VolumeMounts, func(x corev1.VolumeMount) bool { return x.MountPath == m.MountPath })
		switch {
		case i < 0:
			c.VolumeMounts = append(c.VolumeMounts, *m.DeepCopy())
		case !equality.Semantic.DeepEqual(c.VolumeMounts[i], m):
			faults = append(faults, fmt.Errorf("merging volume mounts for %s has a conflict on mount path %s of container %s", p.Name, m.MountPath, c.Name))
		}
	}
	return faults
}
