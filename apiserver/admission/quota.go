// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// resourceQuota holds a namespace to its ResourceQuotas.
//
// What a write takes is added to status.used in the very transaction that writes the object, on the condition that the
// quota is as it was read: two writes that together are too much cannot both win, a refused or failed write takes nothing,
// and no crash leaves a difference. What deletions give back is counted by the quota controller, whose own write fails when
// something was taken meanwhile.
func resourceQuota(state cache.Reader, now func() time.Time) Step {
	return Step{Name: "ResourceQuota", Validate: func(_ context.Context, r *Request) error {
		if r.Verb == Delete || r.Type.Cluster || r.Type.Virtual || r.Subresource != "" && r.Subresource != "resize" {
			return nil
		}
		if kinds.Of(r.Object) != r.Type {
			return nil // an order given to an object takes nothing
		}
		delta := kinds.Usage(r.Type, r.Object, now())
		if r.Verb == Update {
			delta = subtract(delta, kinds.Usage(r.Type, r.Old, now()))
		}
		s := state.Snapshot()
		for e := range s.List(kinds.For[corev1.ResourceQuota](), r.Namespace) {
			q := e.Object.(*corev1.ResourceQuota)
			if err := take(r, e, q, delta); err != nil {
				return err
			}
		}
		return nil
	}}
}

// take adds delta to one quota, or says why it cannot.
func take(r *Request, e *cache.Entry, q *corev1.ResourceQuota, delta corev1.ResourceList) error {
	if !kinds.Measures(q, r.Object) {
		return nil
	}
	if pod, ok := newPod(r); ok {
		if missing := unsaid(q, pod); len(missing) > 0 {
			return forbidden(r, "failed quota: %s: must specify %s", q.Name, strings.Join(missing, ","))
		}
	}
	add := corev1.ResourceList{}
	for name, d := range delta {
		if _, limited := q.Spec.Hard[name]; limited && !d.IsZero() {
			add[name] = d
		}
	}
	if r.Verb == Update && !kinds.Measures(q, r.Old) {
		return nil // it came into the quota's scope; the controller counts it
	}
	if len(add) == 0 {
		return nil
	}
	if unknown := unknownUse(q, add); len(unknown) > 0 {
		return forbidden(r, "status unknown for quota: %s, resources: %s", q.Name, strings.Join(unknown, ","))
	}
	next := q.DeepCopy()
	var over []corev1.ResourceName
	for name, d := range add {
		used := next.Status.Used[name].DeepCopy()
		used.Add(d)
		next.Status.Used[name] = used
		if hard := q.Status.Hard[name]; d.Sign() > 0 && used.Cmp(hard) > 0 {
			over = append(over, name)
		}
	}
	if len(over) > 0 {
		return exceeded(r, q, over, add)
	}
	if equality.Semantic.DeepEqual(next.Status, q.Status) {
		return nil
	}
	r.WriteToo(Also{Was: e, Next: next})
	return nil
}

// exceeded words the refusal as upstream does.
func exceeded(r *Request, q *corev1.ResourceQuota, over []corev1.ResourceName, add corev1.ResourceList) error {
	slices.Sort(over)
	words := func(l corev1.ResourceList) string {
		var out []string
		for _, name := range over {
			v := l[name]
			out = append(out, fmt.Sprintf("%s=%s", name, v.String()))
		}
		return strings.Join(out, ",")
	}
	return forbidden(r, "exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name, words(add), words(q.Status.Used), words(q.Status.Hard))
}

// unknownUse are the resources that the controller has not counted yet.
func unknownUse(q *corev1.ResourceQuota, add corev1.ResourceList) []string {
	var out []string
	for name := range add {
		_, used := q.Status.Used[name]
		_, hard := q.Status.Hard[name]
		if !used || !hard {
			out = append(out, string(name))
		}
	}
	sort.Strings(out)
	return out
}

// unsaid are the compute resources of a quota that a container of the pod says nothing about.
func unsaid(q *corev1.ResourceQuota, pod *corev1.Pod) []string {
	var out []string
	for name := range q.Spec.Hard {
		if !kinds.Compute(name) {
			continue
		}
		of, limits := strings.CutPrefix(string(name), "limits.")
		of = strings.TrimPrefix(of, "requests.")
		said := func(res corev1.ResourceRequirements) bool {
			list := res.Requests
			if limits {
				list = res.Limits
			}
			_, ok := list[corev1.ResourceName(of)]
			return ok
		}
		if pod.Spec.Resources != nil && said(*pod.Spec.Resources) {
			continue
		}
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			if slices.ContainsFunc(list, func(c corev1.Container) bool { return !said(c.Resources) }) && !slices.Contains(out, string(name)) {
				out = append(out, string(name))
			}
		}
	}
	sort.Strings(out)
	return out
}

// subtract is a - b, with what b has and a has not as a negative amount.
func subtract(a, b corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range a {
		out[name] = q.DeepCopy()
	}
	for name, q := range b {
		d, ok := out[name]
		if !ok {
			d = *resource.NewQuantity(0, q.Format)
		}
		d.Sub(q)
		out[name] = d
	}
	return out
}
