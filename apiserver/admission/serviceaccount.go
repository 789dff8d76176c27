// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/knarr/knarr/kinds"
)

const (
	tokenVolumePrefix = "kube-api-access-"
	tokenPath         = "/var/run/secrets/kubernetes.io/serviceaccount"
	// tokenSeconds is an hour and seven seconds, the odd value by which upstream recognises the volume it made.
	tokenSeconds = 3607
)

// serviceAccount gives each pod an account, the default one unless it names one, and the volume with the account's token, the
// cluster's CA and the namespace, unless pod or account say automountServiceAccountToken: false.
func serviceAccount() Step {
	return Step{Name: "ServiceAccount", Mutate: func(ctx context.Context, r *Request) error {
		pod, ok := r.Object.(*corev1.Pod)
		if !ok || r.Verb != Create || r.Subresource != "" {
			return nil
		}
		if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
			return admitMirror(r, pod)
		}
		if pod.Spec.ServiceAccountName == "" {
			pod.Spec.ServiceAccountName = kinds.DefaultAccount
		}
		pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
		e, found, err := r.Lookup.Await(ctx, kinds.For[corev1.ServiceAccount](), r.Namespace, pod.Spec.ServiceAccountName)
		if err != nil {
			return err
		}
		if !found {
			return forbidden(r, "error looking up service account %s/%s: serviceaccount %q not found",
				r.Namespace, pod.Spec.ServiceAccountName, pod.Spec.ServiceAccountName)
		}
		account := e.Object.(*corev1.ServiceAccount)
		if automount(account, pod) {
			mountToken(pod)
		}
		if len(pod.Spec.ImagePullSecrets) == 0 {
			pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
		}
		return nil
	}}
}

// admitMirror: a mirror pod shows what a kubelet runs from a file; it can have no account, because the kubelet runs it
// whether the API likes it or not.
func admitMirror(r *Request, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return forbidden(r, "a mirror pod may not reference service accounts")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			return forbidden(r, "a mirror pod may not reference secrets")
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil {
					return forbidden(r, "a mirror pod may not use ServiceAccountToken volume projections")
				}
			}
		}
	}
	return nil
}

func forbidden(r *Request, format string, args ...any) error {
	return apierrors.NewForbidden(r.Type.Resource().GroupResource(), r.Name, fmt.Errorf(format, args...))
}

func automount(account *corev1.ServiceAccount, pod *corev1.Pod) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken
}

// mountToken adds the volume and mounts it in every container that has nothing mounted there yet.
func mountToken(pod *corev1.Pod) {
	name := ""
	for _, v := range pod.Spec.Volumes {
		if len(v.Name) > len(tokenVolumePrefix) && v.Name[:len(tokenVolumePrefix)] == tokenVolumePrefix {
			name = v.Name
		}
	}
	missing := name == ""
	if missing {
		name = tokenVolumePrefix + rand.String(5)
	}
	mount := corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath}
	used := false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if slices.ContainsFunc(list[i].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenPath }) {
				continue
			}
			list[i].VolumeMounts = append(list[i].VolumeMounts, mount)
			used = true
		}
	}
	if missing && used {
		pod.Spec.Volumes = append(pod.Spec.Volumes, tokenVolume(name))
	}
}

func tokenVolume(name string) corev1.Volume {
	mode, seconds := int32(0o644), int64(tokenSeconds)
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: kinds.RootCA},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path:     "namespace",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}}}
}
