// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// HorizontalPodAutoscaler is autoscaling/v2 HorizontalPodAutoscaler.
var HorizontalPodAutoscaler = Kind[autoscalingv2.HorizontalPodAutoscaler]{
	Group: "autoscaling", Version: "v2", Name: "HorizontalPodAutoscaler", Plural: "horizontalpodautoscalers",
	Validate: validateAutoscaler,
	Served:   autoscalerVersions,
	Short:    []string{"hpa"}, Categories: []string{"all"},
	HasStatus: true, NoGeneration: true,
	Default: defaultAutoscaler,
	Columns: []Column[autoscalingv2.HorizontalPodAutoscaler]{
		nameColumn[autoscalingv2.HorizontalPodAutoscaler](),
		text("Reference", "What it scales.", 0, func(h *autoscalingv2.HorizontalPodAutoscaler) string {
			return h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
		}),
		text("Targets", "Now, and wanted, of each metric.", 0, autoscalerTargets),
		text("MinPods", "The fewest pods.", 0, func(h *autoscalingv2.HorizontalPodAutoscaler) string {
			if h.Spec.MinReplicas == nil {
				return unset
			}
			return fmt.Sprint(*h.Spec.MinReplicas)
		}),
		number("MaxPods", "The most pods.", func(h *autoscalingv2.HorizontalPodAutoscaler) int64 { return int64(h.Spec.MaxReplicas) }),
		number("Replicas", "Pods there are.", func(h *autoscalingv2.HorizontalPodAutoscaler) int64 { return int64(h.Status.CurrentReplicas) }),
		ageColumn[autoscalingv2.HorizontalPodAutoscaler](),
	},
}

// defaultAutoscaler: without metrics, 80 % of the requested CPU; a behavior named in part is filled up.
func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	s := &h.Spec
	orSet(&s.MinReplicas, 1)
	if len(s.Metrics) == 0 {
		share := int32(80)
		s.Metrics = []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{
				Name:   corev1.ResourceCPU,
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &share},
			},
		}}
	}
	if s.Behavior == nil {
		return
	}
	const period = 15
	double := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: period}
	four := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: period}
	orSet(&s.Behavior.ScaleUp, autoscalingv2.HPAScalingRules{})
	orSet(&s.Behavior.ScaleUp.StabilizationWindowSeconds, 0)
	defaultScalingRules(s.Behavior.ScaleUp, four, double)
	orSet(&s.Behavior.ScaleDown, autoscalingv2.HPAScalingRules{})
	defaultScalingRules(s.Behavior.ScaleDown, double)
}

func defaultScalingRules(r *autoscalingv2.HPAScalingRules, policies ...autoscalingv2.HPAScalingPolicy) {
	orSet(&r.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if r.Policies == nil {
		r.Policies = slices.Clone(policies)
	}
}

func autoscalerTargets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	list := []string{}
	for i := range h.Spec.Metrics {
		var now autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			now = h.Status.CurrentMetrics[i]
		}
		list = append(list, metricText(&h.Spec.Metrics[i], &now))
	}
	const most = 2
	switch n := len(list); {
	case n == 0:
		return none
	case n > most:
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:most], ", "), n-most)
	}
	return strings.Join(list, ", ")
}

// metricText is one metric as "now/wanted".
func metricText(m *autoscalingv2.MetricSpec, now *autoscalingv2.MetricStatus) string {
	var current *autoscalingv2.MetricValueStatus
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		if m.Resource == nil {
			break
		}
		if now.Resource != nil {
			current = &now.Resource.Current
		}
		return string(m.Resource.Name) + ": " + resourceTarget(&m.Resource.Target, current)
	case autoscalingv2.ContainerResourceMetricSourceType:
		if m.ContainerResource == nil {
			break
		}
		if now.ContainerResource != nil {
			current = &now.ContainerResource.Current
		}
		return string(m.ContainerResource.Name) + ": " + resourceTarget(&m.ContainerResource.Target, current)
	case autoscalingv2.PodsMetricSourceType:
		if m.Pods == nil {
			break
		}
		if now.Pods != nil {
			current = &now.Pods.Current
		}
		return quantity(current, true) + "/" + m.Pods.Target.AverageValue.String()
	case autoscalingv2.ObjectMetricSourceType:
		if m.Object == nil {
			break
		}
		if now.Object != nil {
			current = &now.Object.Current
		}
		return valueTarget(&m.Object.Target, current)
	case autoscalingv2.ExternalMetricSourceType:
		if m.External == nil {
			break
		}
		if now.External != nil {
			current = &now.External.Current
		}
		return valueTarget(&m.External.Target, current)
	}
	return "<unknown type>"
}

func resourceTarget(t *autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	if t.AverageValue != nil {
		return quantity(now, true) + "/" + t.AverageValue.String()
	}
	have, want := unknown, "<auto>"
	if now != nil && now.AverageUtilization != nil {
		have = fmt.Sprintf("%d%%", *now.AverageUtilization)
	}
	if t.AverageUtilization != nil {
		want = fmt.Sprintf("%d%%", *t.AverageUtilization)
	}
	return have + "/" + want
}

func valueTarget(t *autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	if t.AverageValue != nil {
		return quantity(now, true) + "/" + t.AverageValue.String() + " (avg)"
	}
	return quantity(now, false) + "/" + t.Value.String()
}

func quantity(now *autoscalingv2.MetricValueStatus, average bool) string {
	var q *resource.Quantity
	if now != nil {
		if q = now.Value; average {
			q = now.AverageValue
		}
	}
	if q == nil {
		return unknown
	}
	return q.String()
}
