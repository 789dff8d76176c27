// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func podSpecOf(t *testing.T, o Object) *corev1.PodSpec {
	t.Helper()
	return &o.(*appsv1.Deployment).Spec.Template.Spec
}

func TestServiceDefaults(t *testing.T) {
	for text, want := range map[string]string{
		"ports: [{port: 80}]": "ClusterIP None 80/TCP/80 [IPv4] SingleStack Cluster ",
		"ports: [{port: 80, targetPort: http}]\n  type: NodePort":       "NodePort None 80/TCP/http [IPv4] SingleStack Cluster Cluster",
		"clusterIP: None\n  ports: [{port: 80}]":                        "ClusterIP None 80/TCP/80 [IPv4 IPv6] RequireDualStack Cluster ",
		"clusterIP: None\n  selector: {a: b}\n  ports: [{port: 80}]":    "ClusterIP None 80/TCP/80 [IPv4] SingleStack Cluster ",
		"clusterIP: 'fd00::1'\n  ports: [{port: 53, protocol: UDP}]":    "ClusterIP None 53/UDP/53 [IPv6] SingleStack Cluster ",
		"type: ExternalName\n  externalName: a.b\n  ports: [{port: 1}]": "ExternalName None 1/TCP/1 []   ",
	} {
		_, o := object(t, "kind: Service\nspec:\n  "+text)
		s := o.(*corev1.Service).Spec
		p := s.Ports[0]
		policy, internal := "", ""
		if s.IPFamilyPolicy != nil {
			policy = string(*s.IPFamilyPolicy)
		}
		if s.InternalTrafficPolicy != nil {
			internal = string(*s.InternalTrafficPolicy)
		}
		got := fmt.Sprintf("%s %s %d/%s/%s %v %s %s %s", s.Type, s.SessionAffinity, p.Port, p.Protocol, p.TargetPort.String(), s.IPFamilies, policy, internal, s.ExternalTrafficPolicy)
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestServiceUpdateKeepsWhatWasAllocated(t *testing.T) {
	k, old := object(t, "kind: Service\nspec: {type: NodePort, clusterIP: 10.43.0.7, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30081}]}")
	_, o := object(t, "kind: Service\nspec: {type: NodePort, ports: [{name: b, port: 81}, {name: c, port: 82}, {name: a, port: 80, nodePort: 30090}]}")
	k.BeforeUpdate(o, old)
	s := o.(*corev1.Service).Spec
	if got := fmt.Sprint(s.ClusterIP, s.ClusterIPs, s.Ports[0].NodePort, s.Ports[1].NodePort, s.Ports[2].NodePort); got != "10.43.0.7[10.43.0.7] 30081 0 30090" {
		t.Error(got)
	}
	_, o = object(t, "kind: Service\nspec: {clusterIP: 10.43.0.7, externalTrafficPolicy: Cluster, ports: [{name: a, port: 80, nodePort: 30080}]}")
	k.BeforeUpdate(o, old)
	if s := o.(*corev1.Service).Spec; s.Ports[0].NodePort != 0 || s.ExternalTrafficPolicy != "" {
		t.Errorf("a ClusterIP service keeps %d, %q", s.Ports[0].NodePort, s.ExternalTrafficPolicy)
	}
}
