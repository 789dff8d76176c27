// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"reflect"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
)

// orSet gives a pointer field its default.
func orSet[V any](p **V, v V) {
	if *p == nil {
		*p = &v
	}
}

// or gives a field its default where the zero value means "left out".
func or[V comparable](p *V, v V) {
	var zero V
	if *p == zero {
		*p = v
	}
}

// defaultPodSpec is what pods and pod templates have in common; defaultPod adds what only pods get, so that the templates
// of running Deployments keep their hash.
func defaultPodSpec(s *corev1.PodSpec) {
	or(&s.DNSPolicy, corev1.DNSClusterFirst)
	or(&s.RestartPolicy, corev1.RestartPolicyAlways)
	or(&s.SchedulerName, corev1.DefaultSchedulerName)
	orSet(&s.SecurityContext, corev1.PodSecurityContext{})
	orSet(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	// The two names of one field: serviceAccount is how it was called before v1, and old clients still read it.
	or(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	s.DeprecatedServiceAccount = s.ServiceAccountName

	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i].VolumeSource)
	}
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(&c)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
	roundUp(s.Overhead)
	if s.Resources != nil {
		roundUp(s.Resources.Limits)
		roundUp(s.Resources.Requests)
	}
}

func defaultContainer(c *corev1.Container) {
	or(&c.ImagePullPolicy, pullPolicy(c.Image))
	or(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	or(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		or(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil {
			continue
		}
		if from.FieldRef != nil {
			or(&from.FieldRef.APIVersion, "v1")
		}
		if from.FileKeyRef != nil {
			orSet(&from.FileKeyRef.Optional, false)
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		defaultProbe(p)
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
	roundUp(c.Resources.Limits)
	roundUp(c.Resources.Requests)
}

// pullPolicy follows the tag: what "latest" means may change, what another tag means should not. An unreadable reference
// is left to validation and to the pull.
func pullPolicy(image string) corev1.PullPolicy {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return corev1.PullIfNotPresent
	}
	if tagged, ok := reference.TagNameOnly(ref).(reference.Tagged); ok && tagged.Tag() == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	or(&p.TimeoutSeconds, 1)
	or(&p.PeriodSeconds, 10)
	or(&p.SuccessThreshold, 1)
	or(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		orSet(&p.GRPC.Service, "")
	}
}

func defaultHTTPGet(g *corev1.HTTPGetAction) {
	if g != nil {
		or(&g.Path, "/")
		or(&g.Scheme, corev1.URISchemeHTTP)
	}
}

// roundUp: nothing finer than a thousandth is stored, so that arithmetic on quantities stays exact.
func roundUp(list corev1.ResourceList) {
	for name, q := range list {
		q.RoundUp(-3)
		list[name] = q
	}
}

// requestsFromLimits: a container that names a limit and no request asks for the whole limit. Pods only, not templates.
func requestsFromLimits(r *corev1.ResourceRequirements) {
	if r.Limits == nil {
		return
	}
	if r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; !ok {
			r.Requests[name] = limit.DeepCopy()
		}
	}
	if len(r.Requests) == 0 {
		r.Requests = nil
	}
}

const volumeMode = int32(0o644)

func defaultVolume(v *corev1.VolumeSource) {
	if reflect.ValueOf(v).Elem().IsZero() {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case v.HostPath != nil:
		orSet(&v.HostPath.Type, corev1.HostPathUnset)
	case v.ConfigMap != nil:
		orSet(&v.ConfigMap.DefaultMode, volumeMode)
	case v.Secret != nil:
		orSet(&v.Secret.DefaultMode, volumeMode)
	case v.DownwardAPI != nil:
		orSet(&v.DownwardAPI.DefaultMode, volumeMode)
		defaultDownward(v.DownwardAPI.Items)
	case v.Projected != nil:
		orSet(&v.Projected.DefaultMode, volumeMode)
		defaultProjections(v.Projected.Sources)
	case v.Image != nil:
		or(&v.Image.PullPolicy, pullPolicy(v.Image.Reference))
	case v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil:
		orSet(&v.Ephemeral.VolumeClaimTemplate.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
		roundUp(v.Ephemeral.VolumeClaimTemplate.Spec.Resources.Limits)
		roundUp(v.Ephemeral.VolumeClaimTemplate.Spec.Resources.Requests)
	default:
		defaultLegacyVolume(v)
	}
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if items[i].FieldRef != nil {
			or(&items[i].FieldRef.APIVersion, "v1")
		}
	}
}

func defaultProjections(sources []corev1.VolumeProjection) {
	for i := range sources {
		if sources[i].ServiceAccountToken != nil {
			orSet(&sources[i].ServiceAccountToken.ExpirationSeconds, 3600)
		}
		if sources[i].DownwardAPI != nil {
			defaultDownward(sources[i].DownwardAPI.Items)
		}
	}
}

// defaultLegacyVolume covers the sources that a storage system's own client would serve.
func defaultLegacyVolume(v *corev1.VolumeSource) {
	switch {
	case v.ISCSI != nil:
		or(&v.ISCSI.ISCSIInterface, "default")
	case v.RBD != nil:
		or(&v.RBD.RBDPool, "rbd")
		or(&v.RBD.RadosUser, "admin")
		or(&v.RBD.Keyring, "/etc/ceph/keyring")
	case v.AzureDisk != nil:
		orSet(&v.AzureDisk.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		orSet(&v.AzureDisk.Kind, corev1.AzureSharedBlobDisk)
		orSet(&v.AzureDisk.FSType, "ext4")
		orSet(&v.AzureDisk.ReadOnly, false)
	case v.ScaleIO != nil:
		or(&v.ScaleIO.StorageMode, "ThinProvisioned")
		or(&v.ScaleIO.FSType, "xfs")
	}
}
