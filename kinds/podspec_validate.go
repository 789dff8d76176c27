// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePod(p *corev1.Pod) field.ErrorList {
	f := &faults{}
	path := field.NewPath("spec")
	validatePodSpec(f, path, &p.Spec)
	validateGates(f, path.Child("schedulingGates"), p.Spec.SchedulingGates)
	if len(p.Spec.SchedulingGates) > 0 && p.Spec.NodeName != "" {
		f.forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared")
	}
	return f.list
}

// validateTemplate is for pods that others make: who selects by labels passes its own checks of those.
func validateTemplate(f *faults, p *field.Path, t *corev1.PodTemplateSpec) {
	f.add(metavalidation.ValidateLabels(t.Labels, p.Child("labels"))...)
	f.add(apivalidation.ValidateAnnotations(t.Annotations, p.Child("annotations"))...)
	spec := p.Child("spec")
	validatePodSpec(f, spec, &t.Spec)
	validateGates(f, spec.Child("schedulingGates"), t.Spec.SchedulingGates)
	if len(t.Spec.EphemeralContainers) > 0 {
		f.forbidden(spec.Child("ephemeralContainers"), "ephemeral containers not allowed in pod template")
	}
}

func validatePodSpec(f *faults, p *field.Path, s *corev1.PodSpec) {
	volumes := validateVolumes(f, p.Child("volumes"), s.Volumes)
	validateContainers(f, p, s, volumes)

	oneOf(f, p.Child("restartPolicy"), s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure)
	oneOf(f, p.Child("dnsPolicy"), s.DNSPolicy, corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)
	validateDNSConfig(f, p, s)
	validatePodNames(f, p, s)
	f.add(metavalidation.ValidateLabels(s.NodeSelector, p.Child("nodeSelector"))...)
	validatePodSecurity(f, p, s)
	validateScheduling(f, p, s)
	validateHostAliases(f, p.Child("hostAliases"), s.HostAliases)

	if v := s.ActiveDeadlineSeconds; v != nil {
		f.between(p.Child("activeDeadlineSeconds"), *v, 1, math.MaxInt32)
	}
	if v := s.TerminationGracePeriodSeconds; v != nil {
		f.nonNegative(p.Child("terminationGracePeriodSeconds"), *v)
	}
	for i, gate := range s.ReadinessGates {
		f.each(p.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType), validation.IsQualifiedName(string(gate.ConditionType)))
	}
	if v := s.PreemptionPolicy; v != nil {
		oneOf(f, p.Child("preemptionPolicy"), *v, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
	if s.OS != nil {
		oneOf(f, p.Child("os", "name"), s.OS.Name, corev1.Linux, corev1.Windows)
	}
	for name, q := range s.Overhead {
		validateQuantity(f, p.Child("overhead").Key(string(name)), name, q)
	}
	validatePodResources(f, p.Child("resources"), s)
	validateClaims(f, p.Child("resourceClaims"), s.ResourceClaims)
}

// validatePodNames: everything in the spec that names another object, a host or a domain.
func validatePodNames(f *faults, p *field.Path, s *corev1.PodSpec) {
	for _, n := range []struct {
		field, value string
		check        func(string) []string
	}{
		{"serviceAccountName", s.ServiceAccountName, validation.IsDNS1123Subdomain},
		{"nodeName", s.NodeName, validation.IsDNS1123Subdomain},
		{"hostname", s.Hostname, validation.IsDNS1123Label},
		{"subdomain", s.Subdomain, validation.IsDNS1123Label},
		{"priorityClassName", s.PriorityClassName, validation.IsDNS1123Subdomain},
	} {
		if n.value != "" {
			f.each(p.Child(n.field), n.value, n.check(n.value))
		}
	}
	if v := s.RuntimeClassName; v != nil {
		f.each(p.Child("runtimeClassName"), *v, validation.IsDNS1123Subdomain(*v))
	}
	if v := s.HostnameOverride; v != nil {
		at := p.Child("hostnameOverride")
		f.each(at, *v, validation.IsDNS1123Subdomain(*v))
		if len(*v) > 64 {
			f.invalid(at, *v, "must be no more than 64 characters")
		}
		if s.HostNetwork {
			f.forbidden(at, "may not be specified when hostNetwork is true")
		}
		if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
			f.forbidden(at, "may not be specified when setHostnameAsFQDN is true")
		}
	}
}

const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

func validateDNSConfig(f *faults, p *field.Path, s *corev1.PodSpec) {
	at := p.Child("dnsConfig")
	c := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone {
		if c == nil {
			f.required(at, "must provide `dnsConfig` when `dnsPolicy` is None")
		} else if len(c.Nameservers) == 0 {
			f.required(at.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None")
		}
	}
	if c == nil {
		return
	}
	if len(c.Nameservers) > maxNameservers {
		f.invalid(at.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers))
	}
	for i, ns := range c.Nameservers {
		validateIP(f, at.Child("nameservers").Index(i), ns)
	}
	if len(c.Searches) > maxSearches {
		f.invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchChars {
		f.invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchChars))
	}
	for i, d := range c.Searches {
		if d != "." {
			f.each(at.Child("searches").Index(i), d, validation.IsDNS1123SubdomainWithUnderscore(strings.TrimSuffix(d, ".")))
		}
	}
	for i, o := range c.Options {
		if o.Name == "" {
			f.required(at.Child("options").Index(i), "must not be empty")
		}
	}
}

// validateIP: one address, written the one way nobody reads differently.
func validateIP(f *faults, p *field.Path, ip string) {
	f.add(validation.IsValidIPForLegacyField(p, ip, true, nil)...)
}

func validateHostAliases(f *faults, p *field.Path, aliases []corev1.HostAlias) {
	for i, a := range aliases {
		validateIP(f, p.Index(i).Child("ip"), a.IP)
		for j, name := range a.Hostnames {
			f.each(p.Index(i).Child("hostnames").Index(j), name, validation.IsDNS1123Subdomain(name))
		}
	}
}

func validateGates(f *faults, p *field.Path, gates []corev1.PodSchedulingGate) {
	seen := unique{}
	for i, g := range gates {
		f.each(p.Index(i).Child("name"), g.Name, validation.IsQualifiedName(g.Name))
		seen.check(f, p.Index(i), g.Name)
	}
}

func validateClaims(f *faults, p *field.Path, claims []corev1.PodResourceClaim) {
	seen := unique{}
	for i, c := range claims {
		at := p.Index(i)
		if f.need(at.Child("name"), c.Name) {
			f.each(at.Child("name"), c.Name, validation.IsDNS1123Label(c.Name))
		}
		seen.check(f, at.Child("name"), c.Name)
		switch {
		case c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil:
			f.invalid(at, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
		case c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil:
			f.invalid(at, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
		}
	}
}

// A sysctl's name in its two spellings, with dots or slashes between the parts.
const sysctlPattern = `([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?`

var sysctlName = regexp.MustCompile("^" + sysctlPattern + "$")

func validateSysctls(f *faults, p *field.Path, s *corev1.PodSpec) {
	seen := unique{}
	for i, c := range s.SecurityContext.Sysctls {
		at := p.Index(i).Child("name")
		switch {
		case c.Name == "":
			f.required(at, "")
		case len(c.Name) > 253 || !sysctlName.MatchString(c.Name):
			f.invalid(at, c.Name, fmt.Sprintf("must have at most %d characters and match regex %s", 253, sysctlPattern))
		default:
			seen.check(f, at, strings.ReplaceAll(c.Name, "/", "."))
		}
		// A value with a line break would be a second setting to whoever writes it out (CVE-2022-0811).
		if strings.ContainsAny(c.Value, "\n\r\x00") {
			f.invalid(p.Index(i).Child("value"), c.Value, "must not contain line breaks")
		}
	}
}
