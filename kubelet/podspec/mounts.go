// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/kubelet/volume"
)

// Mount is how a volumeMount is mounted; source is the volume's path, or that of the subPath in it.
func Mount(c *corev1.Container, m *corev1.VolumeMount, v volume.Result, source string) (podruntime.Mount, error) {
	out := podruntime.Mount{Source: source, Target: path.Join("/", m.MountPath), ReadOnly: m.ReadOnly || v.ReadOnly, Propagation: "rprivate"}
	if m.MountPropagation != nil {
		switch *m.MountPropagation {
		case corev1.MountPropagationHostToContainer:
			out.Propagation = "rslave"
		case corev1.MountPropagationBidirectional:
			if c.SecurityContext == nil || c.SecurityContext.Privileged == nil || !*c.SecurityContext.Privileged {
				return out, errs.New(errs.Denied, "mount propagation Bidirectional is for privileged containers only")
			}
			out.Propagation = "rshared"
		}
	}
	out.RecursiveReadOnly = out.ReadOnly && m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled
	return out, nil
}

// MountsAt says whether the container mounts something of its own at target.
func MountsAt(c *corev1.Container, target string) bool {
	return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return path.Clean(m.MountPath) == target })
}
