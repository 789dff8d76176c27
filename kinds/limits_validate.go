// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateLimitRange(l *corev1.LimitRange) field.ErrorList {
	f, seen := &faults{}, unique{}
	for i := range l.Spec.Limits {
		item, at := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		list := validation.IsQualifiedName(string(item.Type))
		f.each(at.Child("type"), item.Type, list)
		if known := []corev1.LimitType{corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim}; len(list) == 0 &&
			!strings.Contains(string(item.Type), "/") && !slices.Contains(known, item.Type) {
			f.invalid(at.Child("type"), item.Type, "must be a standard limit type or fully qualified")
		}
		seen.check(f, at.Child("type"), string(item.Type))
		validateLimitItem(f, at, item)
	}
	return f.list
}

func validateLimitItem(f *faults, p *field.Path, item *corev1.LimitRangeItem) {
	lists := map[string]corev1.ResourceList{"max": item.Max, "min": item.Min, "maxLimitRequestRatio": item.MaxLimitRequestRatio}
	if item.Type == corev1.LimitTypePod {
		if len(item.Default) > 0 {
			f.forbidden(p.Child("default"), "may not be specified when `type` is 'Pod'")
		}
		if len(item.DefaultRequest) > 0 {
			f.forbidden(p.Child("defaultRequest"), "may not be specified when `type` is 'Pod'")
		}
	} else {
		lists["default"], lists["defaultRequest"] = item.Default, item.DefaultRequest
	}
	all := corev1.ResourceList{}
	for name, list := range lists {
		for r := range list {
			all[r] = resource.Quantity{}
			if item.Type == corev1.LimitTypePod || item.Type == corev1.LimitTypeContainer {
				validateContainerResource(f, p.Child(name).Key(string(r)), r)
			} else {
				validateResourceName(f, p.Child(name).Key(string(r)), r)
			}
		}
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, low := item.Min[corev1.ResourceStorage]
		if _, high := item.Max[corev1.ResourceStorage]; !low && !high {
			f.required(p.Child("limits"), "either minimum or maximum storage value is required, but neither was provided")
		}
	}
	for _, r := range sortedNames(all) {
		validateLimitOrder(f, p, item, r)
	}
}

// validateLimitOrder: min ≤ default request ≤ default ≤ max, as far as they are there, and the ratio can be kept.
func validateLimitOrder(f *faults, p *field.Path, item *corev1.LimitRangeItem, r corev1.ResourceName) {
	key := string(r)
	order := func(field string, value resource.Quantity, low corev1.ResourceList, lowName string, high corev1.ResourceList, highName string) {
		a, ok := low[r]
		b, also := high[r]
		if ok && also && a.Cmp(b) > 0 {
			f.invalid(p.Child(field).Key(key), value.String(), fmt.Sprintf("%s value %s is greater than %s value %s", lowName, a.String(), highName, b.String()))
		}
	}
	var fallback, request corev1.ResourceList
	if item.Type != corev1.LimitTypePod {
		fallback, request = item.Default, item.DefaultRequest
	}
	order("min", item.Min[r], item.Min, "min", item.Max, "max")
	order("defaultRequest", request[r], item.Min, "min", request, "default request")
	order("defaultRequest", request[r], request, "default request", item.Max, "max")
	order("defaultRequest", request[r], request, "default request", fallback, "default limit")
	order("default", item.Min[r], item.Min, "min", fallback, "default")
	order("default", item.Max[r], fallback, "default", item.Max, "max")
	ratio, ok := item.MaxLimitRequestRatio[r]
	if !ok {
		return
	}
	at := p.Child("maxLimitRequestRatio").Key(key)
	if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		f.invalid(at, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String()))
	}
	low, has := item.Min[r]
	high, also := item.Max[r]
	if most := high.AsApproximateFloat64() / low.AsApproximateFloat64(); has && also && ratio.AsApproximateFloat64() > most {
		f.invalid(at, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), most))
	}
}

// validateResourceName: any resource that Kubernetes knows, or one of somebody's domain.
func validateResourceName(f *faults, p *field.Path, r corev1.ResourceName) {
	if list := validation.IsQualifiedName(string(r)); len(list) > 0 {
		f.each(p, r, list)
		return
	}
	if !strings.Contains(string(r), "/") && r != corev1.ResourceStorage && !isQuotaResource(r) {
		f.invalid(p, r, "must be a standard resource type or fully qualified")
	}
}

// isQuotaResource: what a ResourceQuota may bound without a domain in its name.
func isQuotaResource(r corev1.ResourceName) bool {
	switch r {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage:
		return true
	}
	return isCount(r) || strings.HasPrefix(string(r), corev1.ResourceRequestsHugePagesPrefix) || strings.HasPrefix(string(r), corev1.ResourceHugePagesPrefix)
}

// isCount: numbers of objects.
func isCount(r corev1.ResourceName) bool {
	switch r {
	case corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceSecrets,
		corev1.ResourcePersistentVolumeClaims, corev1.ResourceConfigMaps, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return false
}

func validateQuota(q *corev1.ResourceQuota) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &q.Spec
	validateQuotaList(f, p.Child("hard"), s.Hard)
	validateScopes(f, p.Child("scopes"), s.Scopes, s.Scopes, s.Hard)
	if s.ScopeSelector == nil {
		return f.list
	}
	at := p.Child("scopeSelector", "matchExpressions")
	var scopes []corev1.ResourceQuotaScope
	for _, e := range s.ScopeSelector.MatchExpressions {
		scopes = append(scopes, e.ScopeName)
		validateScopeRequirement(f, at, e)
	}
	validateScopes(f, at, scopes, s.ScopeSelector, s.Hard)
	return f.list
}

func validateQuotaList(f *faults, p *field.Path, list corev1.ResourceList) {
	for _, r := range sortedNames(list) {
		at, v := p.Key(string(r)), list[r]
		validateResourceName(f, at, r)
		if r == corev1.ResourceStorage {
			f.invalid(at, r, "must be a standard resource for quota")
		}
		if v.Sign() < 0 {
			f.invalid(at, v.String(), "must be greater than or equal to 0")
		}
		if (isCount(r) || extended(r)) && v.MilliValue()%1000 != 0 {
			f.invalid(at, v.String(), "must be an integer")
		}
	}
}

func validateScopeRequirement(f *faults, p *field.Path, e corev1.ScopedResourceSelectorRequirement) {
	switch e.ScopeName {
	case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
		corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if e.Operator != corev1.ScopeSelectorOpExists {
			f.invalid(p.Child("operator"), e.Operator, "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "+
				"ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity")
		}
	}
	switch e.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(e.Values) == 0 {
			f.required(p.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(e.Values) > 0 {
			f.invalid(p.Child("values"), e.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector")
		}
	default:
		f.invalid(p.Child("operator"), e.Operator, "not a valid selector operator")
	}
}

// validateScopes: value is what the fault shows.
func validateScopes(f *faults, p *field.Path, scopes []corev1.ResourceQuotaScope, value any, hard corev1.ResourceList) {
	for _, s := range scopes {
		known := []corev1.ResourceQuotaScope{
			corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
			corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity,
			corev1.ResourceQuotaScopeVolumeAttributesClass,
		}
		if !slices.Contains(known, s) {
			f.invalid(p, value, "unsupported scope")
			continue
		}
		for _, r := range sortedNames(hard) {
			if isQuotaResource(r) && !scopeCounts(s, r) {
				f.invalid(p, value, "unsupported scope applied to resource")
			}
		}
	}
	has := func(a, b corev1.ResourceQuotaScope) bool {
		return slices.Contains(scopes, a) && slices.Contains(scopes, b)
	}
	if has(corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort) {
		f.invalid(p, value, "conflicting scopes")
	}
	if has(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating) {
		f.invalid(p, value, "conflicting scopes")
	}
}

// scopeCounts: most scopes are about pods and what they compute with; pods that ask for nothing are only counted.
func scopeCounts(s corev1.ResourceQuotaScope, r corev1.ResourceName) bool {
	switch s {
	case corev1.ResourceQuotaScopeBestEffort:
		return r == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return r == corev1.ResourcePersistentVolumeClaims || r == corev1.ResourceRequestsStorage
	}
	switch r {
	case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
		return true
	}
	return false
}

func validateQuotaUpdate(new, old *corev1.ResourceQuota) field.ErrorList {
	f := &faults{}
	was, is := slices.Sorted(slices.Values(old.Spec.Scopes)), slices.Sorted(slices.Values(new.Spec.Scopes))
	if !slices.Equal(slices.Compact(was), slices.Compact(is)) {
		f.invalid(field.NewPath("spec", "scopes"), new.Spec.Scopes, "field is immutable")
	}
	return f.list
}

func validateQuotaStatus(new, _ *corev1.ResourceQuota) field.ErrorList {
	f := &faults{}
	validateQuotaList(f, field.NewPath("status", "hard"), new.Status.Hard)
	validateQuotaList(f, field.NewPath("status", "used"), new.Status.Used)
	return f.list
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	f := &faults{}
	if f.need(field.NewPath("handler"), c.Handler) {
		f.each(field.NewPath("handler"), c.Handler, validation.IsDNS1123Label(c.Handler))
	}
	if c.Overhead != nil {
		validateResources(f, field.NewPath("overhead"), &corev1.ResourceRequirements{Limits: c.Overhead.PodFixed}, nil)
	}
	if s := c.Scheduling; s != nil {
		f.add(metavalidation.ValidateLabels(s.NodeSelector, field.NewPath("scheduling", "nodeSelector"))...)
		seen := map[corev1.Toleration]bool{}
		for i, t := range s.Tolerations {
			at := field.NewPath("scheduling").Index(i) // upstream leaves out the field's name
			validateToleration(f, at, t)
			t.TolerationSeconds = nil
			if seen[t] {
				f.add(field.Duplicate(at, t))
			}
			seen[t] = true
		}
	}
	return f.list
}

func validateRuntimeClassUpdate(new, old *nodev1.RuntimeClass) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("handler"), new.Handler, old.Handler)
	return f.list
}
