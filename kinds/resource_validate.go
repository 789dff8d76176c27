// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateDeviceClass(c *resourcev1.DeviceClass) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	validateDeviceSelectors(f, p.Child("selectors"), c.Spec.Selectors)
	tooMany(f, p.Child("config"), len(c.Spec.Config), resourcev1.DeviceConfigMaxSize)
	for i, x := range c.Spec.Config {
		validateOpaque(f, p.Child("config").Index(i), x.Opaque)
	}
	return f.list
}

func tooMany(f *faults, p *field.Path, n, most int) {
	if n > most {
		f.add(field.TooMany(p, n, most))
	}
}

func validateOpaque(f *faults, p *field.Path, o *resourcev1.OpaqueDeviceConfiguration) {
	if o == nil {
		f.required(p.Child("opaque"), "")
		return
	}
	validateDriver(f, p.Child("opaque", "driver"), o.Driver)
	if len(o.Parameters.Raw) == 0 {
		f.required(p.Child("opaque", "parameters"), "")
	}
}

func validateDeviceSelectors(f *faults, p *field.Path, list []resourcev1.DeviceSelector) {
	tooMany(f, p, len(list), resourcev1.DeviceSelectorsMaxSize)
	for i, s := range list {
		if s.CEL == nil {
			f.required(p.Index(i).Child("cel"), "")
		} else if len(s.CEL.Expression) > resourcev1.CELSelectorExpressionMaxLength {
			f.add(field.TooLong(p.Index(i).Child("cel", "expression"), "", resourcev1.CELSelectorExpressionMaxLength))
		}
	}
}

func validateResourceClaim(c *resourcev1.ResourceClaim) field.ErrorList {
	f := &faults{}
	validateDeviceClaim(f, field.NewPath("spec", "devices"), &c.Spec.Devices)
	return f.list
}

func validateResourceClaimUpdate(new, old *resourcev1.ResourceClaim) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec"), new.Spec, old.Spec)
	return f.list
}

func validateClaimTemplate(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	f.add(metavalidation.ValidateLabels(t.Spec.Labels, p.Child("metadata", "labels"))...)
	validateDeviceClaim(f, p.Child("spec", "devices"), &t.Spec.Spec.Devices)
	return f.list
}

func validateClaimTemplateUpdate(new, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec"), new.Spec, old.Spec)
	return f.list
}

// validateDeviceClaim: requests by name, and constraints and settings that speak of them.
func validateDeviceClaim(f *faults, p *field.Path, c *resourcev1.DeviceClaim) {
	tooMany(f, p.Child("requests"), len(c.Requests), resourcev1.DeviceRequestsMaxSize)
	tooMany(f, p.Child("constraints"), len(c.Constraints), resourcev1.DeviceConstraintsMaxSize)
	tooMany(f, p.Child("config"), len(c.Config), resourcev1.DeviceConfigMaxSize)
	names, known := unique{}, map[string]bool{}
	for i := range c.Requests {
		r, at := &c.Requests[i], p.Child("requests").Index(i)
		requestName(f, at.Child("name"), r.Name)
		names.check(f, at, r.Name)
		known[r.Name] = true
		for _, s := range r.FirstAvailable {
			known[r.Name+"/"+s.Name] = true
		}
		validateDeviceRequest(f, at, r)
	}
	refs := func(at *field.Path, list []string) {
		seen := unique{}
		for i, name := range list {
			seen.check(f, at.Index(i), name)
			if !known[name] {
				f.invalid(at.Index(i), name, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'")
			}
		}
	}
	for i, x := range c.Constraints {
		at := p.Child("constraints").Index(i)
		refs(at.Child("requests"), x.Requests)
		switch {
		case x.MatchAttribute != nil:
			qualified(f, at.Child("matchAttribute"), string(*x.MatchAttribute))
		case x.DistinctAttribute != nil:
			qualified(f, at.Child("distinctAttribute"), string(*x.DistinctAttribute))
		default:
			f.required(at, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`)
		}
	}
	for i, x := range c.Config {
		at := p.Child("config").Index(i)
		refs(at.Child("requests"), x.Requests)
		validateOpaque(f, at, x.Opaque)
	}
}

func requestName(f *faults, p *field.Path, name string) {
	if f.need(p, name) {
		f.each(p, name, validation.IsDNS1123Label(name))
	}
}

// qualified: the name of an attribute with its domain.
func qualified(f *faults, p *field.Path, name string) {
	if !f.need(p, name) {
		return
	}
	if !strings.Contains(name, "/") {
		f.invalid(p, name, "must include a domain")
		return
	}
	domain, id, _ := strings.Cut(name, "/")
	f.each(p, domain, validation.IsDNS1123Subdomain(domain))
	f.each(p, id, validation.IsCIdentifier(id))
}

func validateDeviceRequest(f *faults, p *field.Path, r *resourcev1.DeviceRequest) {
	switch e := r.Exactly; {
	case e == nil && len(r.FirstAvailable) == 0:
		f.required(p, "exactly one of `exactly` or `firstAvailable` is required")
	case e != nil && len(r.FirstAvailable) > 0:
		f.invalid(p, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set")
	case e != nil:
		validateRequested(f, p.Child("exactly"), e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations)
	}
	if r.Exactly != nil {
		return
	}
	tooMany(f, p.Child("firstAvailable"), len(r.FirstAvailable), resourcev1.FirstAvailableDeviceRequestMaxSize)
	names := unique{}
	for i := range r.FirstAvailable {
		s, at := &r.FirstAvailable[i], p.Child("firstAvailable").Index(i)
		requestName(f, at.Child("name"), s.Name)
		names.check(f, at, s.Name)
		validateRequested(f, at, s.DeviceClassName, s.Selectors, s.AllocationMode, s.Count, s.Tolerations)
	}
}

func validateRequested(f *faults, p *field.Path, class string, selectors []resourcev1.DeviceSelector, mode resourcev1.DeviceAllocationMode,
	count int64, tolerations []resourcev1.DeviceToleration,
) {
	f.ref(p.Child("deviceClassName"), class)
	validateDeviceSelectors(f, p.Child("selectors"), selectors)
	switch mode {
	case resourcev1.DeviceAllocationModeAll:
		if count != 0 {
			f.invalid(p.Child("count"), count, fmt.Sprintf("must not be specified when allocationMode is '%s'", mode))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if count <= 0 {
			f.invalid(p.Child("count"), count, "must be greater than zero")
		}
	default:
		f.add(field.NotSupported(p.Child("allocationMode"), mode, []resourcev1.DeviceAllocationMode{resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount}))
	}
	for i, t := range tolerations {
		at := p.Child("tolerations").Index(i)
		if t.Key != "" {
			f.add(metavalidation.ValidateLabelName(t.Key, at.Child("key"))...)
		}
		oneOf(f, at.Child("operator"), t.Operator, resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)
		switch t.Operator {
		case resourcev1.DeviceTolerationOpExists:
			if t.Value != "" {
				f.invalid(at.Child("value"), t.Value, "must be empty for operator `Exists`")
			}
		case resourcev1.DeviceTolerationOpEqual:
			f.each(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))
		}
		if t.Effect != "" {
			supported(f, at.Child("effect"), t.Effect, deviceEffects()...)
		}
	}
}

func deviceEffects() []resourcev1.DeviceTaintEffect {
	return []resourcev1.DeviceTaintEffect{resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone}
}

func validateDeviceTaint(f *faults, p *field.Path, t *resourcev1.DeviceTaint) {
	f.add(metavalidation.ValidateLabelName(t.Key, p.Child("key"))...)
	f.each(p.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))
	oneOf(f, p.Child("effect"), t.Effect, deviceEffects()...)
}

func validateResourceSlice(o *resourcev1.ResourceSlice) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &o.Spec
	validateDriver(f, p.Child("driver"), s.Driver)
	validatePool(f, p.Child("pool", "name"), s.Pool.Name)
	if s.Pool.ResourceSliceCount <= 0 {
		f.invalid(p.Child("pool", "resourceSliceCount"), s.Pool.ResourceSliceCount, "must be greater than zero")
	}
	if s.Pool.Generation < 0 {
		f.invalid(p.Child("pool", "generation"), s.Pool.Generation, "must be greater than or equal to zero")
	}
	validateSlicePlace(f, p, s)
	if s.SharedCounters != nil && s.Devices != nil {
		f.invalid(p, "", "only one of `sharedCounters` or `devices` is allowed")
	}
	tooMany(f, p.Child("devices"), len(s.Devices), resourcev1.ResourceSliceMaxDevices)
	names := unique{}
	for i := range s.Devices {
		at := p.Child("devices").Index(i)
		requestName(f, at.Child("name"), s.Devices[i].Name)
		names.check(f, at, s.Devices[i].Name)
		for k := range s.Devices[i].Taints {
			validateDeviceTaint(f, at.Child("taints").Index(k), &s.Devices[i].Taints[k])
		}
	}
	return f.list
}

func validatePool(f *faults, p *field.Path, name string) {
	if !f.need(p, name) {
		return
	}
	if len(name) > resourcev1.PoolNameMaxLength {
		f.add(field.TooLong(p, "", resourcev1.PoolNameMaxLength))
	}
	for _, part := range strings.Split(name, "/") {
		f.each(p, part, validation.IsDNS1123Subdomain(part))
	}
}

// validateSlicePlace: exactly one word on where the devices are.
func validateSlicePlace(f *faults, p *field.Path, s *resourcev1.ResourceSliceSpec) {
	var set []string
	if n := s.NodeName; n != nil {
		if *n == "" {
			f.invalid(p.Child("nodeName"), *n, "must be either unset or set to a non-empty string")
		} else {
			set = append(set, "`nodeName`")
			f.each(p.Child("nodeName"), *n, validation.IsDNS1123Subdomain(*n))
		}
	}
	if n := s.NodeSelector; n != nil {
		set = append(set, "`nodeSelector`")
		validateNodeSelector(f, p.Child("nodeSelector"), n)
		if len(n.NodeSelectorTerms) != 1 {
			f.invalid(p.Child("nodeSelector", "nodeSelectorTerms"), n.NodeSelectorTerms, "must have exactly one node selector term")
		}
	}
	for _, c := range []struct {
		name string
		v    *bool
	}{{"allNodes", s.AllNodes}, {"perDeviceNodeSelection", s.PerDeviceNodeSelection}} {
		switch {
		case c.v == nil:
		case *c.v:
			set = append(set, "`"+c.name+"`")
		default:
			f.invalid(p.Child(c.name), *c.v, "must be either unset or set to true")
		}
	}
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch len(set) {
	case 0:
		f.required(p, one)
	case 1:
	default:
		f.invalid(p, "{"+strings.Join(set, ", ")+"}", one+", but multiple fields are set")
	}
}

func validateNodeSelector(f *faults, p *field.Path, s *corev1.NodeSelector) {
	at := p.Child("nodeSelectorTerms")
	if len(s.NodeSelectorTerms) == 0 {
		f.required(at, "must have at least one node selector term")
	}
	for i, t := range s.NodeSelectorTerms {
		validateNodeTerm(f, at.Index(i), t)
	}
}

func validateResourceSliceUpdate(new, old *resourcev1.ResourceSlice) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	f.immutable(p.Child("pool", "name"), new.Spec.Pool.Name, old.Spec.Pool.Name)
	f.immutable(p.Child("driver"), new.Spec.Driver, old.Spec.Driver)
	f.immutable(p.Child("nodeName"), new.Spec.NodeName, old.Spec.NodeName)
	return f.list
}

func validateTaintRule(r *resourcev1.DeviceTaintRule) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if s := r.Spec.DeviceSelector; s != nil {
		at := p.Child("deviceSelector")
		if s.Driver != nil {
			validateDriver(f, at.Child("driver"), *s.Driver)
		}
		if s.Pool != nil {
			validatePool(f, at.Child("pool"), *s.Pool)
		}
		if s.Device != nil {
			requestName(f, at.Child("device"), *s.Device)
		}
	}
	validateDeviceTaint(f, p.Child("taint"), &r.Spec.Taint)
	return f.list
}
