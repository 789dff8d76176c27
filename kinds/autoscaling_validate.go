// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateMetric: exactly the source that the type names.
func validateMetric(f *faults, p *field.Path, m *autoscalingv2.MetricSpec) {
	sources := []struct {
		kind  autoscalingv2.MetricSourceType
		name  string
		there bool
	}{
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil},
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil},
	}
	if m.Type == "" {
		f.required(p.Child("type"), "must specify a metric source type")
	}
	known := make([]autoscalingv2.MetricSourceType, len(sources))
	for i, s := range sources {
		known[i] = s.kind
		switch {
		case s.kind == m.Type && !s.there:
			f.required(p.Child(s.name), "must populate information for the given metric source")
		case s.kind != m.Type && s.there:
			f.forbidden(p.Child(s.name), "must populate the given metric source only")
		}
	}
	supported(f, p.Child("type"), m.Type, known...)
	switch {
	case m.Object != nil:
		o, at := m.Object, p.Child("object")
		segment(f, at.Child("describedObject", "kind"), o.DescribedObject.Kind)
		segment(f, at.Child("describedObject", "name"), o.DescribedObject.Name)
		validateMetricName(f, at.Child("metric", "name"), o.Metric.Name)
		validateTarget(f, at.Child("target"), &o.Target)
		if o.Target.Value == nil && o.Target.AverageValue == nil {
			f.required(at.Child("target", "averageValue"), "must set either a target value or averageValue")
		}
	case m.External != nil:
		e, at := m.External, p.Child("external")
		validateMetricName(f, at.Child("metric", "name"), e.Metric.Name)
		validateTarget(f, at.Child("target"), &e.Target)
		if e.Target.Value == nil && e.Target.AverageValue == nil {
			f.required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target")
		}
		if e.Target.Value != nil && e.Target.AverageValue != nil {
			f.forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target")
		}
	case m.Pods != nil:
		at := p.Child("pods")
		validateMetricName(f, at.Child("metric", "name"), m.Pods.Metric.Name)
		validateTarget(f, at.Child("target"), &m.Pods.Target)
		if m.Pods.Target.AverageValue == nil {
			f.required(at.Child("target", "averageValue"), "must specify a positive target averageValue")
		}
	case m.Resource != nil:
		validateResourceTarget(f, p.Child("resource"), string(m.Resource.Name), &m.Resource.Target)
	case m.ContainerResource != nil:
		c, at := m.ContainerResource, p.Child("containerResource")
		if c.Name != "" {
			validateContainerResource(f, at.Child("name"), c.Name)
		}
		if c.Container == "" {
			f.required(at.Child("container"), "must specify a container")
		} else {
			f.each(at.Child("container"), c.Container, validation.IsDNS1123Label(c.Container))
		}
		validateResourceTarget(f, at, string(c.Name), &c.Target)
	}
}

func validateMetricName(f *faults, p *field.Path, name string) {
	if name == "" {
		f.required(p, "must specify a metric name")
		return
	}
	f.each(p, name, pathSegment(name, false))
}

func validateResourceTarget(f *faults, p *field.Path, name string, t *autoscalingv2.MetricTarget) {
	if name == "" {
		f.required(p.Child("name"), "must specify a resource name")
	}
	at := p.Child("target")
	validateTarget(f, at, t)
	if t.AverageUtilization == nil && t.AverageValue == nil {
		f.required(at.Child("averageUtilization"), "must set either a target raw value or a target utilization")
	}
	if t.AverageUtilization != nil && t.AverageValue != nil {
		f.forbidden(at.Child("averageValue"), "may not set both a target raw value and a target utilization")
	}
}

func validateTarget(f *faults, p *field.Path, t *autoscalingv2.MetricTarget) {
	switch t.Type {
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	default:
		if t.Type == "" {
			f.required(p.Child("type"), "must specify a metric target type")
		}
		f.invalid(p.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue")
	}
	if t.Value != nil && t.Value.Sign() <= 0 {
		f.invalid(p.Child("value"), t.Value.String(), "must be positive")
	}
	if t.AverageValue != nil && t.AverageValue.Sign() <= 0 {
		f.invalid(p.Child("averageValue"), t.AverageValue.String(), "must be positive")
	}
	if n := t.AverageUtilization; n != nil && *n < 1 {
		f.invalid(p.Child("averageUtilization"), *n, "must be greater than 0")
	}
}

// Bounds of a scaling behavior, in seconds.
const (
	longestStabilization = 3600
	longestPeriod        = 1800
)

func validateScaling(f *faults, p *field.Path, r *autoscalingv2.HPAScalingRules) {
	if r == nil {
		return
	}
	if n := r.StabilizationWindowSeconds; n != nil && *n < 0 {
		f.invalid(p.Child("stabilizationWindowSeconds"), *n, "must be greater than or equal to zero")
	} else if n != nil && *n > longestStabilization {
		f.invalid(p.Child("stabilizationWindowSeconds"), *n, fmt.Sprintf("must be less than or equal to %v", longestStabilization))
	}
	if s := r.SelectPolicy; s != nil {
		supported(f, p.Child("selectPolicy"), *s, autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)
	}
	if len(r.Policies) == 0 {
		f.required(p.Child("policies"), "must specify at least one Policy")
	}
	for i, c := range r.Policies {
		at := p.Child("policies").Index(i)
		supported(f, at.Child("type"), c.Type, autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)
		if c.Value <= 0 {
			f.invalid(at.Child("value"), c.Value, "must be greater than zero")
		}
		switch n := c.PeriodSeconds; {
		case n <= 0:
			f.invalid(at.Child("periodSeconds"), n, "must be greater than zero")
		case n > longestPeriod:
			f.invalid(at.Child("periodSeconds"), n, fmt.Sprintf("must be less than or equal to %v", longestPeriod))
		}
	}
	if t := r.Tolerance; t != nil && t.Sign() < 0 {
		f.invalid(p.Child("tolerance"), t.String(), "must be greater than or equal to 0")
	}
}
