// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	coordinationv1beta1 "k8s.io/api/coordination/v1beta1"
	schedulingv1alpha3 "k8s.io/api/scheduling/v1alpha3"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
)

func validateWorkload(w *schedulingv1beta1.Workload) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if r := w.Spec.ControllerRef; r != nil {
		at := p.Child("controllerRef")
		if r.APIGroup != "" {
			f.each(at.Child("apiGroup"), r.APIGroup, validation.IsDNS1123Subdomain(r.APIGroup))
		}
		segment(f, at.Child("kind"), r.Kind)
		segment(f, at.Child("name"), r.Name)
	}
	at, names := p.Child("podGroupTemplates"), unique{}
	if len(w.Spec.PodGroupTemplates) == 0 {
		f.required(at, "")
	}
	tooMany(f, at, len(w.Spec.PodGroupTemplates), schedulingv1beta1.WorkloadMaxPodGroupTemplates)
	for i := range w.Spec.PodGroupTemplates {
		t := &w.Spec.PodGroupTemplates[i]
		requestName(f, at.Index(i).Child("name"), t.Name)
		names.check(f, at.Index(i), t.Name)
		validateGrouping(f, at.Index(i).Child("schedulingPolicy"), t.SchedulingPolicy.Basic != nil, gangCount(t.SchedulingPolicy.Gang))
	}
	return f.list
}

func gangCount(g *schedulingv1beta1.GangSchedulingPolicy) *int32 {
	if g == nil {
		return nil
	}
	return &g.MinCount
}

// validateGrouping: pod by pod, or all of count together.
func validateGrouping(f *faults, p *field.Path, basic bool, count *int32) {
	switch {
	case !basic && count == nil:
		f.invalid(p, "", "must specify one of: `basic`, `gang`")
	case basic && count != nil:
		f.invalid(p, "{`basic`, `gang`}", "exactly one of `basic`, `gang` is required, but multiple fields are set")
	case count != nil && *count < 1:
		f.invalid(p.Child("gang", "minCount"), *count, "must be greater than or equal to 1")
	}
}

func validatePodGroup(g *schedulingv1beta1.PodGroup) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if r := g.Spec.WorkloadRef; r != nil {
		f.ref(p.Child("workloadRef", "workloadName"), r.WorkloadName)
		requestName(f, p.Child("workloadRef", "templateName"), r.TemplateName)
	}
	if n := g.Spec.ParentCompositePodGroupName; n != nil {
		f.each(p.Child("parentCompositePodGroupName"), *n, validation.IsDNS1123Subdomain(*n))
	}
	if n := g.Spec.PriorityClassName; n != "" {
		f.each(p.Child("priorityClassName"), n, validation.IsDNS1123Subdomain(n))
	}
	validateGrouping(f, p.Child("schedulingPolicy"), g.Spec.SchedulingPolicy.Basic != nil, gangCount(g.Spec.SchedulingPolicy.Gang))
	return f.list
}

func validateCompositeGroup(g *schedulingv1alpha3.CompositePodGroup) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if r := g.Spec.WorkloadRef; r == nil {
		f.required(p.Child("workloadRef"), "")
	} else {
		f.ref(p.Child("workloadRef", "workloadName"), r.WorkloadName)
		requestName(f, p.Child("workloadRef", "templateName"), r.TemplateName)
	}
	if n := g.Spec.PriorityClassName; n != "" {
		f.each(p.Child("priorityClassName"), n, validation.IsDNS1123Subdomain(n))
	}
	gang := g.Spec.SchedulingPolicy.Gang
	switch basic := g.Spec.SchedulingPolicy.Basic != nil; {
	case !basic && gang == nil:
		f.invalid(p.Child("schedulingPolicy"), "", "must specify one of: `basic`, `gang`")
	case basic && gang != nil:
		f.invalid(p.Child("schedulingPolicy"), "{`basic`, `gang`}", "exactly one of `basic`, `gang` is required, but multiple fields are set")
	}
	return f.list
}

func validateLeaseCandidate(c *coordinationv1beta1.LeaseCandidate) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &c.Spec
	f.need(p.Child("leaseName"), s.LeaseName)
	parse := func(p *field.Path, text string) *version.Version {
		if text == "" {
			return nil
		}
		v, err := version.ParseSemantic(text)
		if err != nil || strings.HasPrefix(text, "v") {
			f.invalid(p, text, "must be a valid semantic version")
			return nil
		}
		return v
	}
	f.need(p.Child("binaryVersion"), s.BinaryVersion)
	binary, emulated := parse(p.Child("binaryVersion"), s.BinaryVersion), parse(p.Child("emulationVersion"), s.EmulationVersion)
	if binary != nil && emulated != nil && binary.LessThan(emulated) {
		f.invalid(p.Child("binaryVersion"), s.BinaryVersion, "must be greater than or equal to `emulationVersion`")
	}
	at := p.Child("strategy")
	switch {
	case s.Strategy == "":
		f.required(at, "")
	case s.Strategy == coordinationv1.OldestEmulationVersion:
		if s.EmulationVersion == "" {
			f.required(p.Child("emulationVersion"), "must be specified when `strategy` is 'OldestEmulationVersion'")
		}
	case strings.Contains(string(s.Strategy), "/"):
		f.each(at.Child("strategy"), s.Strategy, validation.IsQualifiedName(string(s.Strategy))) // upstream says it twice
	default:
		f.add(field.NotSupported(at.Child("strategy"), s.Strategy, []coordinationv1.CoordinatedLeaseStrategy{coordinationv1.OldestEmulationVersion}))
	}
	return f.list
}

func validateLeaseCandidateUpdate(new, old *coordinationv1beta1.LeaseCandidate) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec", "leaseName"), new.Spec.LeaseName, old.Spec.LeaseName)
	return f.list
}

func validateMigration(m *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	f := &faults{}
	p, r := field.NewPath("spec", "resource"), m.Spec.Resource
	if r.Group != "" {
		f.each(p.Child("group"), r.Group, validation.IsDNS1123Subdomain(r.Group))
	}
	if f.need(p.Child("resource"), r.Resource) {
		f.each(p.Child("resource"), r.Resource, validation.IsDNS1035Label(r.Resource))
	}
	return f.list
}

func validateMigrationUpdate(new, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec"), new.Spec, old.Spec)
	return f.list
}
