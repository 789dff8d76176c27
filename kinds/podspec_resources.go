// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateResources checks one container's requests and limits, each in the order of its names.
func validateResources(f *faults, p *field.Path, r *corev1.ResourceRequirements, claims sets.Set[string]) {
	compute, huge := false, false
	for _, part := range []struct {
		name string
		list corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		for _, name := range sortedNames(part.list) {
			at := p.Child(part.name).Key(string(name))
			validateContainerResource(f, at, name)
			validateQuantity(f, at, name, part.list[name])
			compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
			huge = huge || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
		}
	}
	for _, name := range sortedNames(r.Requests) {
		request := r.Requests[name]
		limit, limited := r.Limits[name]
		switch {
		case limited && !overcommits(name) && request.Cmp(limit) != 0:
			f.invalid(p.Child("requests"), request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String()))
		case limited && request.Cmp(limit) > 0:
			f.invalid(p.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
		case !limited && !overcommits(name):
			f.required(p.Child("limits"), "Limit must be set for non overcommitable resources")
		}
	}
	if huge && !compute {
		f.forbidden(p, "HugePages require cpu or memory")
	}
	seen := unique{}
	for i, c := range r.Claims {
		at := p.Child("claims").Index(i)
		if !f.need(at.Child("name"), c.Name) {
			continue
		}
		if !claims.Has(c.Name) {
			f.add(field.NotFound(at.Child("name"), c.Name))
		}
		seen.check(f, at, c.Name+"/"+c.Request)
	}
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(list))
	for n := range list {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// overcommits: only what the kernel can share out (cpu, memory, disk) may be promised beyond what there is.
func overcommits(name corev1.ResourceName) bool {
	return native(name) && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// native: a resource of Kubernetes' own, without a domain or with kubernetes.io.
func native(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

func validateContainerResource(f *faults, p *field.Path, name corev1.ResourceName) {
	s := string(name)
	if bad := validation.IsQualifiedName(s); len(bad) > 0 {
		f.each(p, name, bad)
		return
	}
	switch {
	case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage,
		strings.HasPrefix(s, corev1.ResourceHugePagesPrefix):
	case !strings.Contains(s, "/"):
		f.invalid(p, name, "must be a standard resource for containers")
	case !native(name) && !extended(name):
		f.invalid(p, name, "doesn't follow extended resource name standard")
	}
}

// extended: a device of some domain; "requests." is how quotas spell them, so no resource may begin so.
func extended(name corev1.ResourceName) bool {
	return !native(name) && !strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

func validateQuantity(f *faults, p *field.Path, name corev1.ResourceName, q resource.Quantity) {
	if q.Sign() < 0 {
		f.invalid(p, q.String(), "must be greater than or equal to 0")
	}
	if !native(name) && q.MilliValue()%1000 != 0 {
		f.invalid(p, q.String(), "must be an integer")
	}
}

// validatePodResources: what the pod as a whole asks for; only what a cgroup can bound together.
func validatePodResources(f *faults, p *field.Path, s *corev1.PodSpec) {
	r := s.Resources
	if r == nil {
		return
	}
	for _, part := range []struct {
		name string
		list corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		for _, name := range sortedNames(part.list) {
			at := p.Child(part.name).Key(string(name))
			if name != corev1.ResourceCPU && name != corev1.ResourceMemory && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
				f.add(field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceCPU, "hugepages-", corev1.ResourceMemory}))
			}
			validateQuantity(f, at, name, part.list[name])
		}
	}
	sum := containerRequests(s)
	for _, name := range sortedNames(r.Requests) {
		request := r.Requests[name]
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			f.invalid(p.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
		}
		if total, ok := sum[name]; ok && total.Cmp(request) > 0 {
			f.invalid(p.Child("requests").Key(string(name)), request.String(), fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", total.String()))
		}
	}
}
