// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// action is what a probe or a hook does: exactly one of these.
type action struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
}

func (v *containerRules) probe(p *field.Path, c *corev1.Probe, once bool) {
	if c == nil {
		return
	}
	v.handler(p, action{c.Exec, c.HTTPGet, c.TCPSocket, c.GRPC, nil})
	v.nonNegative(p.Child("initialDelaySeconds"), int64(c.InitialDelaySeconds))
	v.nonNegative(p.Child("timeoutSeconds"), int64(c.TimeoutSeconds))
	v.nonNegative(p.Child("periodSeconds"), int64(c.PeriodSeconds))
	v.nonNegative(p.Child("successThreshold"), int64(c.SuccessThreshold))
	v.nonNegative(p.Child("failureThreshold"), int64(c.FailureThreshold))
	if once && c.SuccessThreshold != 1 {
		v.invalid(p.Child("successThreshold"), c.SuccessThreshold, "must be 1")
	}
	if g := c.TerminationGracePeriodSeconds; g != nil && once {
		v.positive(p.Child("terminationGracePeriodSeconds"), *g)
	}
}

func (v *containerRules) handler(p *field.Path, a action) {
	count := 0
	next := func(name string) *field.Path {
		at := p.Child(name)
		if count++; count > 1 {
			v.forbidden(at, "may not specify more than 1 handler type")
		}
		return at
	}
	if a.exec != nil {
		at := next("exec")
		if len(a.exec.Command) == 0 {
			v.required(at.Child("command"), "")
		}
	}
	if a.http != nil {
		v.httpGet(next("httpGet"), a.http)
	}
	if a.tcp != nil {
		v.portOrName(next("tcpSocket").Child("port"), a.tcp.Port)
	}
	if a.grpc != nil {
		v.port(next("grpc").Child("port"), a.grpc.Port)
	}
	if a.sleep != nil {
		at := next("sleep")
		grace := int64(0)
		if g := v.spec.TerminationGracePeriodSeconds; g != nil {
			grace = *g
		}
		if a.sleep.Seconds < 0 || a.sleep.Seconds > grace {
			v.invalid(at, a.sleep.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", grace))
		}
	}
	if count == 0 {
		v.required(p, "must specify a handler type")
	}
}

func (v *containerRules) httpGet(p *field.Path, g *corev1.HTTPGetAction) {
	v.need(p.Child("path"), g.Path)
	v.portOrName(p.Child("port"), g.Port)
	supported(v.faults, p.Child("scheme"), g.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	for i, h := range g.HTTPHeaders {
		v.each(p.Child("httpHeaders").Index(i).Child("name"), h.Name, validation.IsHTTPHeaderName(h.Name))
	}
}

func (f *faults) portOrName(p *field.Path, port intstr.IntOrString) {
	if port.Type == intstr.String {
		f.each(p, port.StrVal, validation.IsValidPortName(port.StrVal))
	} else {
		f.port(p, port.IntVal)
	}
}
