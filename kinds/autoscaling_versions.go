// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"encoding/json"
	"reflect"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// autoscaling/v1 knows one metric, the share of the requested CPU; the rest of v2 is in annotations, as JSON. v2beta2 is v2
// under another name: k8s.io/api dropped its types, the wire form did not change.
const (
	metricsAnnotation    = "autoscaling.knarr.dev/metrics"
	behaviorAnnotation   = "autoscaling.knarr.dev/behavior"
	currentAnnotation    = "autoscaling.knarr.dev/current-metrics"
	conditionsAnnotation = "autoscaling.knarr.dev/conditions"
)

var autoscalerVersions = []Served[autoscalingv2.HorizontalPodAutoscaler]{
	Alike("autoscaling", "v1", autoscalerToHub, autoscalerFromHub),
	Via("autoscaling", "v2beta2",
		func(in, out *autoscalingv2.HorizontalPodAutoscaler) { *out = *in },
		func(in, out *autoscalingv2.HorizontalPodAutoscaler) { *out = *in }),
}

// addAutoscalingV2beta2 registers the types of v2 under their older name.
func addAutoscalingV2beta2(s *runtime.Scheme) error {
	gv := schema.GroupVersion{Group: "autoscaling", Version: "v2beta2"}
	s.AddKnownTypes(gv, &autoscalingv2.HorizontalPodAutoscaler{}, &autoscalingv2.HorizontalPodAutoscalerList{})
	return nil
}

func autoscalerToHub(in *autoscalingv1.HorizontalPodAutoscaler, out *autoscalingv2.HorizontalPodAutoscaler) {
	unpack(out, metricsAnnotation, &out.Spec.Metrics)
	unpack(out, behaviorAnnotation, &out.Spec.Behavior)
	unpack(out, currentAnnotation, &out.Status.CurrentMetrics)
	unpack(out, conditionsAnnotation, &out.Status.Conditions)
	if n := in.Spec.TargetCPUUtilizationPercentage; n != nil {
		out.Spec.Metrics = append([]autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{
				Type: autoscalingv2.UtilizationMetricType, AverageUtilization: n,
			}},
		}}, out.Spec.Metrics...)
	}
	if n := in.Status.CurrentCPUUtilizationPercentage; n != nil && len(out.Status.CurrentMetrics) == 0 {
		out.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{
				AverageUtilization: n,
			}},
		}}
	}
}

func autoscalerFromHub(in *autoscalingv2.HorizontalPodAutoscaler, out *autoscalingv1.HorizontalPodAutoscaler) {
	rest := []autoscalingv2.MetricSpec{}
	for i := range in.Spec.Metrics {
		m := &in.Spec.Metrics[i]
		if out.Spec.TargetCPUUtilizationPercentage == nil && isCPUShare(m) {
			out.Spec.TargetCPUUtilizationPercentage = m.Resource.Target.AverageUtilization
			continue
		}
		rest = append(rest, *m)
	}
	pack(out, metricsAnnotation, rest)
	pack(out, behaviorAnnotation, in.Spec.Behavior)
	for i := range in.Status.CurrentMetrics {
		m := &in.Status.CurrentMetrics[i]
		if m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU {
			out.Status.CurrentCPUUtilizationPercentage = m.Resource.Current.AverageUtilization
		}
	}
	pack(out, currentAnnotation, in.Status.CurrentMetrics)
	pack(out, conditionsAnnotation, in.Status.Conditions)
}

// isCPUShare: the metric that v1 has a field for.
func isCPUShare(m *autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU &&
		m.Resource.Target.Type == autoscalingv2.UtilizationMetricType && m.Resource.Target.AverageUtilization != nil &&
		m.Resource.Target.Value == nil && m.Resource.Target.AverageValue == nil
}

// pack keeps what has no field in an annotation; nothing when there is nothing.
func pack(o Object, key string, v any) {
	x := reflect.ValueOf(v)
	if x.Kind() == reflect.Pointer && x.IsNil() || x.Kind() == reflect.Slice && x.Len() == 0 {
		return
	}
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // these types have no value that is no JSON
	}
	annotate(o, key, string(raw))
}

// unpack is pack undone; an annotation that somebody broke stays where it is.
func unpack(o Object, key string, into any) {
	if raw, ok := o.GetAnnotations()[key]; ok && CheckJSON([]byte(raw), into) == nil && json.Unmarshal([]byte(raw), into) == nil {
		take(o, key)
	}
}
