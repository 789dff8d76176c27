// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateContainers checks the three lists of a pod's containers, whose names are one set.
func validateContainers(f *faults, p *field.Path, s *corev1.PodSpec, volumes map[string]corev1.VolumeSource) {
	v := containerRules{faults: f, spec: s, volumes: volumes, names: unique{}, claims: sets.New[string]()}
	for _, c := range s.ResourceClaims {
		v.claims.Insert(c.Name)
	}
	if len(s.Containers) == 0 {
		f.required(p.Child("containers"), "")
	}
	hostPorts, initPorts := unique{}, unique{}
	for i := range s.Containers {
		at := p.Child("containers").Index(i)
		v.container(at, &s.Containers[i])
		v.restart(at, &s.Containers[i], false)
		v.runs(at, &s.Containers[i])
		v.conflicts(at, &s.Containers[i], hostPorts)
	}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		at := p.Child("initContainers").Index(i)
		v.container(at, c)
		v.restart(at, c, true)
		if isSidecar(c) {
			v.runs(at, c)
			v.conflicts(at, c, hostPorts)
		} else {
			v.noLife(at, c, "may not be set for init containers without restartPolicy=Always")
			v.conflicts(at, c, initPorts)
			initPorts = unique{} // one after the other
		}
	}
	for i := range s.EphemeralContainers {
		v.ephemeral(p.Child("ephemeralContainers").Index(i), &s.EphemeralContainers[i])
	}
}

// containerRules checks containers against the pod they are in.
type containerRules struct {
	*faults
	spec    *corev1.PodSpec
	volumes map[string]corev1.VolumeSource
	names   unique
	claims  sets.Set[string]
}

func (v *containerRules) container(p *field.Path, c *corev1.Container) {
	if v.need(p.Child("name"), c.Name) {
		v.each(p.Child("name"), c.Name, validation.IsDNS1123Label(c.Name))
	}
	v.names.check(v.faults, p.Child("name"), c.Name)
	if v.need(p.Child("image"), c.Image) && strings.TrimSpace(c.Image) != c.Image {
		v.invalid(p.Child("image"), c.Image, "must not have leading or trailing whitespace")
	}
	oneOf(v.faults, p.Child("imagePullPolicy"), c.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	oneOf(v.faults, p.Child("terminationMessagePolicy"), c.TerminationMessagePolicy, corev1.TerminationMessageFallbackToLogsOnError, corev1.TerminationMessageReadFile)
	v.ports(p.Child("ports"), c.Ports)
	for i, e := range c.Env {
		v.env(p.Child("env").Index(i), e)
	}
	for i, e := range c.EnvFrom {
		v.envFrom(p.Child("envFrom").Index(i), e)
	}
	v.mounts(p, c)
	validateResources(v.faults, p.Child("resources"), &c.Resources, v.claims)
	for i, r := range c.ResizePolicy {
		at := p.Child("resizePolicy").Index(i)
		supported(v.faults, at.Child("resourceName"), r.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)
		supported(v.faults, at.Child("restartPolicy"), r.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)
	}
	validateContainerSecurity(v.faults, p.Child("securityContext"), c.SecurityContext, v.spec)
}

// restart: an init container's own restart policy makes it a sidecar; rules refine a policy.
func (v *containerRules) restart(p *field.Path, c *corev1.Container, init bool) {
	if r := c.RestartPolicy; r != nil {
		supported(v.faults, p.Child("restartPolicy"), *r, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	}
	at := p.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > 0 && c.RestartPolicy == nil {
		v.required(p.Child("restartPolicy"), "must specify restartPolicy when restart rules are used")
	}
	if len(c.RestartPolicyRules) > 0 && init && isSidecar(c) {
		v.forbidden(at, "restart rules are not allowed for init containers with restart policy Always")
	}
	if len(c.RestartPolicyRules) > 20 {
		v.add(field.TooMany(at, len(c.RestartPolicyRules), 20))
	}
	for i, r := range c.RestartPolicyRules {
		oneOf(v.faults, at.Index(i).Child("action"), r.Action, corev1.ContainerRestartRuleActionRestart)
		codes := at.Index(i).Child("exitCodes")
		if r.ExitCodes == nil {
			v.required(codes, "must be specified")
			continue
		}
		oneOf(v.faults, codes.Child("operator"), r.ExitCodes.Operator, corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
		if len(r.ExitCodes.Values) > 255 {
			v.add(field.TooMany(codes.Child("values"), len(r.ExitCodes.Values), 255))
		}
	}
}

// runs: what only a container that stays up can have.
func (v *containerRules) runs(p *field.Path, c *corev1.Container) {
	v.probe(p.Child("livenessProbe"), c.LivenessProbe, true)
	v.probe(p.Child("readinessProbe"), c.ReadinessProbe, false)
	v.probe(p.Child("startupProbe"), c.StartupProbe, true)
	if r := c.ReadinessProbe; r != nil && r.TerminationGracePeriodSeconds != nil {
		v.invalid(p.Child("readinessProbe", "terminationGracePeriodSeconds"), *r.TerminationGracePeriodSeconds, "must not be set for readinessProbes")
	}
	if c.Lifecycle == nil {
		return
	}
	at := p.Child("lifecycle")
	if h := c.Lifecycle.PostStart; h != nil {
		v.handler(at.Child("postStart"), action{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep})
	}
	if h := c.Lifecycle.PreStop; h != nil {
		v.handler(at.Child("preStop"), action{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep})
	}
	if c.Lifecycle.StopSignal != nil && v.spec.OS == nil {
		v.forbidden(at.Child("stopSignal"), "may not be set for containers with empty `spec.os.name`")
	}
}

// noLife: containers that run to their end have no probes and hooks.
func (v *containerRules) noLife(p *field.Path, c *corev1.Container, why string) {
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"lifecycle", c.Lifecycle != nil},
		{"livenessProbe", c.LivenessProbe != nil},
		{"readinessProbe", c.ReadinessProbe != nil},
		{"startupProbe", c.StartupProbe != nil},
	} {
		if x.set {
			v.forbidden(p.Child(x.name), why)
		}
	}
}

func (v *containerRules) ephemeral(p *field.Path, e *corev1.EphemeralContainer) {
	c := corev1.Container(e.EphemeralContainerCommon)
	v.container(p, &c)
	if e.TargetContainerName != "" && !hasContainer(v.spec, e.TargetContainerName) {
		v.add(field.NotFound(p.Child("targetContainerName"), e.TargetContainerName))
	}
	v.noLife(p, &c, "cannot be set for an Ephemeral Container")
	if len(c.Ports) > 0 {
		v.forbidden(p.Child("ports"), "cannot be set for an Ephemeral Container")
	}
	if len(c.Resources.Limits)+len(c.Resources.Requests)+len(c.Resources.Claims) > 0 {
		v.forbidden(p.Child("resources"), "cannot be set for an Ephemeral Container")
	}
	for i, m := range c.VolumeMounts {
		at := p.Child("volumeMounts").Index(i)
		if m.SubPath != "" {
			v.forbidden(at.Child("subPath"), "cannot be set for an Ephemeral Container")
		}
		if m.SubPathExpr != "" {
			v.forbidden(at.Child("subPathExpr"), "cannot be set for an Ephemeral Container")
		}
	}
}

func hasContainer(s *corev1.PodSpec, name string) bool {
	for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
	}
	return false
}

func (v *containerRules) ports(p *field.Path, ports []corev1.ContainerPort) {
	names := unique{}
	for i, port := range ports {
		at := p.Index(i)
		if port.Name != "" {
			if bad := validation.IsValidPortName(port.Name); len(bad) > 0 {
				v.each(at.Child("name"), port.Name, bad)
			} else {
				names.check(v.faults, at.Child("name"), port.Name)
			}
		}
		if port.ContainerPort == 0 {
			v.required(at.Child("containerPort"), "")
		} else {
			v.port(at.Child("containerPort"), port.ContainerPort)
		}
		if port.HostPort != 0 {
			v.port(at.Child("hostPort"), port.HostPort)
			if v.spec.HostNetwork && port.HostPort != port.ContainerPort {
				v.invalid(at.Child("containerPort"), port.ContainerPort, "must match `hostPort` when `hostNetwork` is true")
			}
		}
		if port.HostIP != "" {
			validateIP(v.faults, at.Child("hostIP"), port.HostIP)
		}
		validateProtocol(v.faults, at.Child("protocol"), port.Protocol)
	}
}

func validateProtocol(f *faults, p *field.Path, proto corev1.Protocol) {
	oneOf(f, p, proto, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
}

func (v *containerRules) conflicts(p *field.Path, c *corev1.Container, used unique) {
	for i, port := range c.Ports {
		if port.HostPort != 0 {
			used.check(v.faults, p.Child("ports").Index(i).Child("hostPort"), fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort))
		}
	}
}

func (v *containerRules) mounts(p *field.Path, c *corev1.Container) {
	paths, devices := unique{}, map[string]bool{}
	for _, d := range c.VolumeDevices {
		devices[d.DevicePath] = true
	}
	for i, m := range c.VolumeMounts {
		at := p.Child("volumeMounts").Index(i)
		if v.need(at.Child("name"), m.Name) && !v.hasVolume(m.Name) {
			v.add(field.NotFound(at.Child("name"), m.Name))
		}
		if v.need(at.Child("mountPath"), m.MountPath) {
			if paths[m.MountPath] {
				v.invalid(at.Child("mountPath"), m.MountPath, "must be unique")
			}
			if devices[m.MountPath] {
				v.invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices")
			}
			paths[m.MountPath] = true
		}
		if m.SubPath != "" {
			validateDescending(v.faults, at.Child("subPath"), m.SubPath)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				v.invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
			}
			validateDescending(v.faults, at.Child("subPathExpr"), m.SubPathExpr)
		}
		v.propagation(at, &m, c)
	}
	v.devices(p.Child("volumeDevices"), c.VolumeDevices)
}

func (v *containerRules) hasVolume(name string) bool { _, ok := v.volumes[name]; return ok }

func (v *containerRules) propagation(p *field.Path, m *corev1.VolumeMount, c *corev1.Container) {
	if mode := m.MountPropagation; mode != nil {
		at := p.Child("mountPropagation")
		supported(v.faults, at, *mode, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
		if *mode == corev1.MountPropagationBidirectional && (c.SecurityContext == nil || !isTrue(c.SecurityContext.Privileged)) {
			v.forbidden(at, "Bidirectional mount propagation is available only to privileged containers")
		}
	}
	if mode := m.RecursiveReadOnly; mode != nil {
		at := p.Child("recursiveReadOnly")
		supported(v.faults, at, *mode, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
		if *mode != corev1.RecursiveReadOnlyDisabled && !m.ReadOnly {
			v.forbidden(at, "may only be specified when readOnly is true")
		}
	}
}

func (v *containerRules) devices(p *field.Path, list []corev1.VolumeDevice) {
	names, paths := unique{}, map[string]bool{}
	for i, d := range list {
		at := p.Index(i)
		if v.need(at.Child("name"), d.Name) {
			if names[d.Name] {
				v.invalid(at.Child("name"), d.Name, "must be unique")
			}
			names[d.Name] = true
			src, ok := v.volumes[d.Name]
			switch {
			case !ok:
				v.add(field.NotFound(at.Child("name"), d.Name))
			case src.PersistentVolumeClaim == nil && src.Ephemeral == nil:
				v.invalid(at.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode")
			}
		}
		if v.need(at.Child("devicePath"), d.DevicePath) {
			noDotDot(v.faults, at.Child("devicePath"), d.DevicePath)
			if paths[d.DevicePath] {
				v.invalid(at.Child("devicePath"), d.DevicePath, "must be unique")
			}
			paths[d.DevicePath] = true
		}
	}
}
