// SPDX-License-Identifier: Apache-2.0

package downward

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestField(t *testing.T) {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1", Labels: map[string]string{"b": "2", "a": "1\"x"},
			Annotations: map[string]string{"note/x": "hi"}},
		Spec:   corev1.PodSpec{NodeName: "n1", ServiceAccountName: "sa"},
		Status: corev1.PodStatus{HostIP: "10.0.0.1", PodIP: "10.42.0.5", PodIPs: []corev1.PodIP{{IP: "10.42.0.5"}, {IP: "fd00::5"}}},
	}
	for path, want := range map[string]string{
		"metadata.name": "web", "metadata.namespace": "shop", "metadata.uid": "u1",
		"metadata.labels": "a=\"1\\\"x\"\nb=\"2\"", "metadata.labels['b']": "2", "metadata.annotations['note/x']": "hi",
		"metadata.labels['none']": "", "spec.nodeName": "n1", "spec.serviceAccountName": "sa", "status.hostIP": "10.0.0.1",
		"status.podIP": "10.42.0.5", "status.podIPs": "10.42.0.5,fd00::5",
	} {
		got, err := Field(p, path)
		if err != nil || got != want {
			t.Errorf("Field(%s) = %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"spec.containers", "metadata.finalizers['x']", ""} {
		if _, err := Field(p, path); err == nil {
			t.Errorf("Field(%q) is accepted", path)
		}
	}
}

func TestResource(t *testing.T) {
	c := &corev1.Container{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("250m")},
		Limits:   corev1.ResourceList{"memory": resource.MustParse("64Mi"), "cpu": resource.MustParse("1500m")},
	}}
	node := corev1.ResourceList{"ephemeral-storage": resource.MustParse("10Gi")}
	for _, x := range []struct{ res, div, want string }{
		{"limits.cpu", "", "2"},
		{"limits.cpu", "1m", "1500"},
		{"requests.cpu", "1m", "250"},
		{"requests.cpu", "1", "1"},
		{"limits.memory", "1Mi", "64"},
		{"requests.memory", "1Ki", "65536"},
		{"limits.ephemeral-storage", "1Gi", "10"},
	} {
		sel := &corev1.ResourceFieldSelector{Resource: x.res}
		if x.div != "" {
			sel.Divisor = resource.MustParse(x.div)
		}
		if got, err := Resource(c, sel, node); err != nil || got != x.want {
			t.Errorf("%s / %s = %s, %v; want %s", x.res, x.div, got, err, x.want)
		}
	}
	if _, err := Resource(c, &corev1.ResourceFieldSelector{Resource: "usage.cpu"}, node); err == nil {
		t.Error("usage.cpu is accepted")
	}
}
