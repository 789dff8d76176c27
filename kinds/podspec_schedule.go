// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateScheduling: what the scheduler reads beside resources and nodeSelector.
func validateScheduling(f *faults, p *field.Path, s *corev1.PodSpec) {
	for i, t := range s.Tolerations {
		validateToleration(f, p.Child("tolerations").Index(i), t)
	}
	validateSpread(f, p.Child("topologySpreadConstraints"), s.TopologySpreadConstraints)
	if s.Affinity == nil {
		return
	}
	at := p.Child("affinity")
	if a := s.Affinity.NodeAffinity; a != nil {
		validateNodeAffinity(f, at.Child("nodeAffinity"), a)
	}
	if a := s.Affinity.PodAffinity; a != nil {
		validatePodTerms(f, at.Child("podAffinity"), a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := s.Affinity.PodAntiAffinity; a != nil {
		validatePodTerms(f, at.Child("podAntiAffinity"), a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func validateToleration(f *faults, p *field.Path, t corev1.Toleration) {
	if t.Key != "" {
		f.add(metavalidation.ValidateLabelName(t.Key, p.Child("key"))...)
	} else if t.Operator != corev1.TolerationOpExists {
		f.invalid(p.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
	}
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		f.invalid(p.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
	}
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		f.each(p.Child("operator"), t.Value, validation.IsValidLabelValue(t.Value))
	case corev1.TolerationOpExists:
		if t.Value != "" {
			f.invalid(p.Child("operator"), t, "value must be empty when `operator` is 'Exists'")
		}
	default:
		f.add(field.NotSupported(p.Child("operator"), t.Operator, []corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
	}
	if t.Effect != "" {
		validateTaintEffect(f, p.Child("effect"), t.Effect)
	}
}

func validateTaintEffect(f *faults, p *field.Path, e corev1.TaintEffect) {
	oneOf(f, p, e, corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule)
}

func validateSpread(f *faults, p *field.Path, list []corev1.TopologySpreadConstraint) {
	seen := unique{}
	for i, c := range list {
		at := p.Index(i)
		if c.MaxSkew <= 0 {
			f.invalid(at.Child("maxSkew"), c.MaxSkew, "must be greater than zero")
		}
		validateTopologyKey(f, at.Child("topologyKey"), c.TopologyKey)
		supported(f, at.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)
		seen.check(f, at.Child("{topologyKey, whenUnsatisfiable}"), fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable))
		if n := c.MinDomains; n != nil {
			if *n <= 0 {
				f.invalid(at.Child("minDomains"), *n, "must be greater than zero")
			}
			if c.WhenUnsatisfiable != corev1.DoNotSchedule {
				f.invalid(at.Child("minDomains"), *n, fmt.Sprintf("can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, c.WhenUnsatisfiable))
			}
		}
		for name, v := range map[string]*corev1.NodeInclusionPolicy{"nodeAffinityPolicy": c.NodeAffinityPolicy, "nodeTaintsPolicy": c.NodeTaintsPolicy} {
			if v != nil {
				supported(f, at.Child(name), *v, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
			}
		}
		validateMatchKeys(f, at.Child("matchLabelKeys"), c.MatchLabelKeys, c.LabelSelector)
		validateSelector(f, at.Child("labelSelector"), c.LabelSelector)
	}
}

func validateMatchKeys(f *faults, p *field.Path, keys []string, s *metav1.LabelSelector) {
	if len(keys) > 0 && s == nil {
		f.forbidden(p, "must not be specified when labelSelector is not set")
	}
	for i, k := range keys {
		f.add(metavalidation.ValidateLabelName(k, p.Index(i))...)
	}
}

func validateSelector(f *faults, p *field.Path, s *metav1.LabelSelector) {
	f.add(metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, p)...)
}

func validateTopologyKey(f *faults, p *field.Path, key string) {
	if key == "" {
		f.required(p, "can not be empty")
	} else {
		f.add(metavalidation.ValidateLabelName(key, p)...)
	}
}

func validateNodeAffinity(f *faults, p *field.Path, a *corev1.NodeAffinity) {
	if r := a.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		at := p.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
		if len(r.NodeSelectorTerms) == 0 {
			f.required(at, "must have at least one node selector term")
		}
		for i, t := range r.NodeSelectorTerms {
			validateNodeTerm(f, at.Index(i), t)
		}
	}
	for i, t := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		at := p.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		validateWeight(f, at.Child("weight"), t.Weight)
		validateNodeTerm(f, at.Child("preference"), t.Preference)
	}
}

func validateWeight(f *faults, p *field.Path, w int32) {
	if w <= 0 || w > 100 {
		f.invalid(p, w, "must be in the range 1-100")
	}
}

func validateNodeTerm(f *faults, p *field.Path, t corev1.NodeSelectorTerm) {
	for i, r := range t.MatchExpressions {
		at := p.Child("matchExpressions").Index(i)
		validateNodeRequirement(f, at, r)
		f.add(metavalidation.ValidateLabelName(r.Key, at.Child("key"))...)
		if r.Operator == corev1.NodeSelectorOpIn || r.Operator == corev1.NodeSelectorOpNotIn {
			for j, v := range r.Values {
				f.each(at.Child("values").Index(j), v, validation.IsValidLabelValue(v))
			}
		}
	}
	for i, r := range t.MatchFields {
		at := p.Child("matchFields").Index(i)
		switch r.Operator {
		case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
			if len(r.Values) != 1 {
				f.required(at.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
			}
		default:
			f.invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
		}
		if r.Key != "metadata.name" {
			f.invalid(at.Child("key"), r.Key, "not a valid field selector key")
			continue
		}
		for j, v := range r.Values {
			f.each(at.Child("values").Index(j), v, validation.IsDNS1123Subdomain(v))
		}
	}
}

func validateNodeRequirement(f *faults, p *field.Path, r corev1.NodeSelectorRequirement) {
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			f.required(p.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			f.forbidden(p.Child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			f.required(p.Child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'")
		}
	default:
		f.invalid(p.Child("operator"), r.Operator, "not a valid selector operator")
	}
}

func validatePodTerms(f *faults, p *field.Path, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	for i, t := range required {
		validatePodTerm(f, p.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i), t)
	}
	for i, t := range preferred {
		at := p.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		validateWeight(f, at.Child("weight"), t.Weight)
		validatePodTerm(f, at.Child("podAffinityTerm"), t.PodAffinityTerm)
	}
}

func validatePodTerm(f *faults, p *field.Path, t corev1.PodAffinityTerm) {
	validateSelector(f, p.Child("labelSelector"), t.LabelSelector)
	validateSelector(f, p.Child("namespaceSelector"), t.NamespaceSelector)
	for i, n := range t.Namespaces {
		f.each(p.Child("namespaces").Index(i), n, validation.IsDNS1123Label(n))
	}
	validateMatchKeys(f, p.Child("matchLabelKeys"), t.MatchLabelKeys, t.LabelSelector)
	validateMatchKeys(f, p.Child("mismatchLabelKeys"), t.MismatchLabelKeys, t.LabelSelector)
	validateTopologyKey(f, p.Child("topologyKey"), t.TopologyKey)
}
