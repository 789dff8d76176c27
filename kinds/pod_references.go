// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
)

// References yields the Secrets and ConfigMaps that a kubelet needs to run a pod, as resource ("secrets", "configmaps") and name; one may
// come more than once.
func References(pod *corev1.Pod) iter.Seq2[string, string] {
	const secret, configMap = "secrets", "configmaps"
	return func(yield func(string, string) bool) {
		more := true
		ref := func(resource, name string) { more = more && yield(resource, name) }
		for _, s := range pod.Spec.ImagePullSecrets {
			ref(secret, s.Name)
		}
		eachEnv(&pod.Spec, func(e *corev1.EnvVarSource, from *corev1.EnvFromSource) {
			switch {
			case e != nil && e.SecretKeyRef != nil:
				ref(secret, e.SecretKeyRef.Name)
			case e != nil && e.ConfigMapKeyRef != nil:
				ref(configMap, e.ConfigMapKeyRef.Name)
			case from != nil && from.SecretRef != nil:
				ref(secret, from.SecretRef.Name)
			case from != nil && from.ConfigMapRef != nil:
				ref(configMap, from.ConfigMapRef.Name)
			}
		})
		for i := range pod.Spec.Volumes {
			volumeRefs(&pod.Spec.Volumes[i].VolumeSource, func(name string) { ref(secret, name) }, func(name string) { ref(configMap, name) })
		}
	}
}

func eachEnv(spec *corev1.PodSpec, f func(*corev1.EnvVarSource, *corev1.EnvFromSource)) {
	container := func(env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for i := range env {
			if env[i].ValueFrom != nil {
				f(env[i].ValueFrom, nil)
			}
		}
		for i := range from {
			f(nil, &from[i])
		}
	}
	for i := range spec.InitContainers {
		container(spec.InitContainers[i].Env, spec.InitContainers[i].EnvFrom)
	}
	for i := range spec.Containers {
		container(spec.Containers[i].Env, spec.Containers[i].EnvFrom)
	}
	for i := range spec.EphemeralContainers {
		container(spec.EphemeralContainers[i].Env, spec.EphemeralContainers[i].EnvFrom)
	}
}

func volumeRefs(v *corev1.VolumeSource, secret, configMap func(string)) {
	switch {
	case v.Secret != nil:
		secret(v.Secret.SecretName)
	case v.ConfigMap != nil:
		configMap(v.ConfigMap.Name)
	case v.Projected != nil:
		for _, p := range v.Projected.Sources {
			if p.Secret != nil {
				secret(p.Secret.Name)
			}
			if p.ConfigMap != nil {
				configMap(p.ConfigMap.Name)
			}
		}
	case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
		secret(v.CSI.NodePublishSecretRef.Name)
	case v.CephFS != nil && v.CephFS.SecretRef != nil:
		secret(v.CephFS.SecretRef.Name)
	case v.RBD != nil && v.RBD.SecretRef != nil:
		secret(v.RBD.SecretRef.Name)
	case v.ISCSI != nil && v.ISCSI.SecretRef != nil:
		secret(v.ISCSI.SecretRef.Name)
	case v.FlexVolume != nil && v.FlexVolume.SecretRef != nil:
		secret(v.FlexVolume.SecretRef.Name)
	case v.AzureFile != nil:
		secret(v.AzureFile.SecretName)
	}
}
