// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateBudget(b *policyv1.PodDisruptionBudget) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &b.Spec
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		f.invalid(p, b.Spec, "minAvailable and maxUnavailable cannot be both set")
	}
	if s.MinAvailable != nil {
		validateShare(f, p.Child("minAvailable"), *s.MinAvailable)
	}
	if s.MaxUnavailable != nil {
		validateShare(f, p.Child("maxUnavailable"), *s.MaxUnavailable)
	}
	if s.Selector != nil {
		validateSelector(f, p.Child("selector"), s.Selector)
	}
	if e := s.UnhealthyPodEvictionPolicy; e != nil {
		supported(f, p.Child("unhealthyPodEvictionPolicy"), *e, policyv1.AlwaysAllow, policyv1.IfHealthyBudget)
	}
	return f.list
}

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &h.Spec
	f.need(p.Child("scaleTargetRef", "kind"), s.ScaleTargetRef.Kind)
	f.need(p.Child("scaleTargetRef", "name"), s.ScaleTargetRef.Name)
	lowest := either(s.MinReplicas, 1)
	if lowest < 1 {
		f.invalid(p.Child("minReplicas"), lowest, "must be greater than or equal to 1")
	}
	if s.MaxReplicas < 1 {
		f.invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than 0")
	}
	if s.MaxReplicas < lowest {
		f.invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`")
	}
	for i := range s.Metrics {
		validateMetric(f, p.Child("metrics").Index(i), &s.Metrics[i])
	}
	if b := s.Behavior; b != nil {
		validateScaling(f, p.Child("behavior", "scaleUp"), b.ScaleUp)
		validateScaling(f, p.Child("behavior", "scaleDown"), b.ScaleDown)
	}
	return f.list
}

// highestUserPriority is the most a class of users may have; above are the system's.
const highestUserPriority = 1_000_000_000

func validatePriorityClass(c *schedulingv1.PriorityClass) field.ErrorList {
	f := &faults{}
	system := strings.HasPrefix(c.Name, "system-")
	switch {
	case system && c.Name != "system-cluster-critical" && c.Name != "system-node-critical":
		f.forbidden(field.NewPath("metadata", "name"), "priority class names with 'system-' prefix are reserved for system use only. error: "+c.Name+" is not a known system priority class")
	case !system && c.Value > highestUserPriority:
		f.forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", highestUserPriority))
	}
	if p := c.PreemptionPolicy; p != nil {
		supported(f, field.NewPath("preemptionPolicy"), *p, "Never", "PreemptLowerPriority")
	}
	return f.list
}

func validatePriorityClassUpdate(new, old *schedulingv1.PriorityClass) field.ErrorList {
	f := &faults{}
	if new.Value != old.Value {
		f.forbidden(field.NewPath("value"), "may not be changed in an update.")
	}
	f.immutable(field.NewPath("preemptionPolicy"), new.PreemptionPolicy, old.PreemptionPolicy)
	return f.list
}

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	f := &faults{}
	if f.need(field.NewPath("provisioner"), c.Provisioner) {
		f.each(field.NewPath("provisioner"), c.Provisioner, validation.IsQualifiedName(strings.ToLower(c.Provisioner)))
	}
	if r := c.ReclaimPolicy; r != nil {
		supported(f, field.NewPath("reclaimPolicy"), *r, "Delete", "Retain")
	}
	if m := c.VolumeBindingMode; m != nil {
		supported(f, field.NewPath("volumeBindingMode"), *m, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)
	}
	return f.list
}

func validateStorageClassUpdate(new, old *storagev1.StorageClass) field.ErrorList {
	f := &faults{}
	if !equality.Semantic.DeepEqual(new.Parameters, old.Parameters) {
		f.forbidden(field.NewPath("parameters"), "updates to parameters are forbidden.")
	}
	if new.Provisioner != old.Provisioner {
		f.forbidden(field.NewPath("provisioner"), "updates to provisioner are forbidden.")
	}
	if either(new.ReclaimPolicy, "") != either(old.ReclaimPolicy, "") {
		f.forbidden(field.NewPath("reclaimPolicy"), "updates to reclaimPolicy are forbidden.")
	}
	f.immutable(field.NewPath("volumeBindingMode"), new.VolumeBindingMode, old.VolumeBindingMode)
	return f.list
}

func validateIngress(i *networkingv1.Ingress) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &i.Spec
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		f.invalid(p, s.Rules, "either `defaultBackend` or `rules` must be specified")
	}
	if s.DefaultBackend != nil {
		validateBackend(f, p.Child("defaultBackend"), s.DefaultBackend)
	}
	if c := s.IngressClassName; c != nil {
		f.each(p.Child("ingressClassName"), *c, validation.IsDNS1123Subdomain(*c))
	}
	for n, r := range s.Rules {
		at := p.Child("rules").Index(n)
		switch {
		case strings.HasPrefix(r.Host, "*"):
			f.each(at.Child("host"), r.Host, validation.IsWildcardDNS1123Subdomain(r.Host))
		case r.Host != "":
			f.each(at.Child("host"), r.Host, validation.IsDNS1123Subdomain(r.Host))
		}
		if r.HTTP == nil {
			continue
		}
		if len(r.HTTP.Paths) == 0 {
			f.required(at.Child("http", "paths"), "")
		}
		for k := range r.HTTP.Paths {
			validateIngressPath(f, at.Child("http", "paths").Index(k), &r.HTTP.Paths[k])
		}
	}
	return f.list
}

func validateIngressPath(f *faults, p *field.Path, path *networkingv1.HTTPIngressPath) {
	at := p.Child("pathType")
	switch t := either(path.PathType, ""); t {
	case "":
		f.required(at, "pathType must be specified")
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(path.Path, "/") {
			f.invalid(p.Child("path"), path.Path, "must be an absolute path")
		}
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(path.Path, bad) {
				f.invalid(p.Child("path"), path.Path, fmt.Sprintf("must not contain '%s'", bad))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if path.Path != "" && !strings.HasPrefix(path.Path, "/") {
			f.invalid(p.Child("path"), path.Path, "must be an absolute path")
		}
	default:
		f.add(field.NotSupported(at, t, []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	validateBackend(f, p.Child("backend"), &path.Backend)
}

func validateBackend(f *faults, p *field.Path, b *networkingv1.IngressBackend) {
	switch {
	case b.Service != nil && b.Resource != nil:
		f.invalid(p, "", "cannot set both resource and service backends")
	case b.Resource != nil:
		f.need(p.Child("resource", "kind"), b.Resource.Kind)
		f.need(p.Child("resource", "name"), b.Resource.Name)
	case b.Service == nil:
		f.required(p, "resource or service backend is required")
	default:
		at := p.Child("service")
		if f.need(at.Child("name"), b.Service.Name) {
			f.each(at.Child("name"), b.Service.Name, validation.IsDNS1035Label(b.Service.Name))
		}
		switch port := b.Service.Port; {
		case port.Name != "" && port.Number != 0:
			f.invalid(p, "", "cannot set both port name & port number")
		case port.Name != "":
			f.each(at.Child("port", "name"), port.Name, validation.IsValidPortName(port.Name))
		case port.Number == 0:
			f.required(p, "port name or number is required")
		default:
			f.port(at.Child("port", "number"), port.Number)
		}
	}
}
