// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePodSecurity(f *faults, p *field.Path, s *corev1.PodSpec) {
	c, at := s.SecurityContext, p.Child("securityContext")
	if s.HostPID && s.ShareProcessNamespace != nil && *s.ShareProcessNamespace {
		f.invalid(p.Child("shareProcessNamespace"), *s.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
	if s.HostUsers != nil && !*s.HostUsers {
		for _, h := range []struct {
			name string
			on   bool
		}{{"hostNetwork", s.HostNetwork}, {"hostPID", s.HostPID}, {"hostIPC", s.HostIPC}} {
			if h.on {
				f.forbidden(p.Child(h.name), "when `hostUsers` is false")
			}
		}
	}
	if c == nil {
		return
	}
	validateIDs(f, at, c.RunAsUser, c.RunAsGroup)
	if c.FSGroup != nil {
		f.each(at.Child("fsGroup"), *c.FSGroup, validation.IsValidGroupID(*c.FSGroup))
	}
	for i, g := range c.SupplementalGroups {
		f.each(at.Child("supplementalGroups").Index(i), g, validation.IsValidGroupID(g))
	}
	if v := c.FSGroupChangePolicy; v != nil {
		supported(f, at.Child("fsGroupChangePolicy"), *v, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)
	}
	if v := c.SupplementalGroupsPolicy; v != nil {
		supported(f, at.Child("supplementalGroupsPolicy"), *v, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if v := c.SELinuxChangePolicy; v != nil {
		supported(f, at.Child("seLinuxChangePolicy"), *v, corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)
	}
	validateSysctls(f, at.Child("sysctls"), s)
	validateSeccomp(f, at.Child("seccompProfile"), c.SeccompProfile)
	validateAppArmor(f, at.Child("appArmorProfile"), c.AppArmorProfile)
}

func validateIDs(f *faults, p *field.Path, user, group *int64) {
	if user != nil {
		f.each(p.Child("runAsUser"), *user, validation.IsValidUserID(*user))
	}
	if group != nil {
		f.each(p.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))
	}
}

// validateSeccomp fails closed: a Localhost profile without a name would otherwise run unconfined (CVE-2023-2431).
func validateSeccomp(f *faults, p *field.Path, c *corev1.SeccompProfile) {
	if c == nil {
		return
	}
	oneOf(f, p.Child("type"), c.Type, corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	at := p.Child("localhostProfile")
	switch {
	case c.Type != corev1.SeccompProfileTypeLocalhost:
		if c.LocalhostProfile != nil {
			f.invalid(at, *c.LocalhostProfile, "can only be set when seccomp type is Localhost")
		}
	case c.LocalhostProfile == nil || *c.LocalhostProfile == "":
		f.required(at, "must be set when seccomp type is Localhost")
	default:
		validateDescending(f, at, *c.LocalhostProfile)
	}
}

func validateAppArmor(f *faults, p *field.Path, c *corev1.AppArmorProfile) {
	if c == nil {
		return
	}
	oneOf(f, p.Child("type"), c.Type, corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	at := p.Child("localhostProfile")
	switch {
	case c.Type != corev1.AppArmorProfileTypeLocalhost:
		if c.LocalhostProfile != nil {
			f.invalid(at, *c.LocalhostProfile, "can only be set when AppArmor type is Localhost")
		}
	case c.LocalhostProfile == nil || strings.TrimSpace(*c.LocalhostProfile) == "":
		f.required(at, "must be set when AppArmor type is Localhost")
	case strings.TrimSpace(*c.LocalhostProfile) != *c.LocalhostProfile:
		f.invalid(at, *c.LocalhostProfile, "must not be padded with whitespace")
	}
}

func validateContainerSecurity(f *faults, p *field.Path, c *corev1.SecurityContext, s *corev1.PodSpec) {
	if c == nil {
		return
	}
	validateIDs(f, p, c.RunAsUser, c.RunAsGroup)
	validateSeccomp(f, p.Child("seccompProfile"), c.SeccompProfile)
	validateAppArmor(f, p.Child("appArmorProfile"), c.AppArmorProfile)
	if v := c.ProcMount; v != nil {
		supported(f, p.Child("procMount"), *v, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
		if *v == corev1.UnmaskedProcMount && (s.HostUsers == nil || *s.HostUsers) {
			f.invalid(p.Child("procMount"), *v, "`hostUsers` must be false to use `Unmasked`")
		}
	}
	if c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation {
		if isTrue(c.Privileged) {
			f.invalid(p, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
		}
		if c.Capabilities != nil && slices.Contains(c.Capabilities.Add, "CAP_SYS_ADMIN") {
			f.invalid(p, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
		}
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

// validateDescending: a path that stays below the folder it is put in.
func validateDescending(f *faults, p *field.Path, value string) {
	if path.IsAbs(value) {
		f.invalid(p, value, "must be a relative path")
	}
	noDotDot(f, p, value)
}

func noDotDot(f *faults, p *field.Path, value string) {
	if slices.Contains(strings.Split(value, "/"), "..") {
		f.invalid(p, value, "must not contain '..'")
	}
}

// validateFileName: a path for a projected file; names that begin with two dots are the projection's own (..data).
func validateFileName(f *faults, p *field.Path, value string) {
	if !f.need(p, value) {
		return
	}
	validateDescending(f, p, value)
	if strings.HasPrefix(value, "..") && !strings.HasPrefix(value, "../") && value != ".." {
		f.invalid(p, value, "must not start with '..'")
	}
}
