// SPDX-License-Identifier: Apache-2.0

package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/controllers/pods"
)

// bounds are maxSurge and maxUnavailable in pods, by the nodes that should run one.
func (p *pass) bounds() (surge, unavailable int) {
	if p.Set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || p.Set.Spec.UpdateStrategy.RollingUpdate == nil {
		return 0, 0
	}
	desired := 0
	for _, n := range p.Nodes {
		if run, _ := belongs(p.Set, n); run {
			desired++
		}
	}
	if desired == 0 {
		return 0, 0
	}
	of := func(v *intstr.IntOrString) int {
		if v == nil {
			return 0
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(v, desired, true)
		if err != nil {
			return 0 // validation refuses it
		}
		return n
	}
	r := p.Set.Spec.UpdateStrategy.RollingUpdate
	if surge, unavailable = of(r.MaxSurge), of(r.MaxUnavailable); surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

// pair is the pod of the present template and that of an older one; false if there are several.
func (p *pass) pair(list []*corev1.Pod) (new, old *corev1.Pod, ok bool) {
	for _, x := range list {
		at := &old
		if p.updated(x) {
			at = &new
		}
		if *at != nil {
			return nil, nil, false
		}
		*at = x
	}
	return new, old, true
}

// roll replaces pods of older templates, as many as may be.
func (p *pass) roll() {
	if surge, unavailable := p.bounds(); surge == 0 {
		p.replace(unavailable)
	} else {
		p.surge(surge)
	}
}

// replace deletes old pods: those that do not work anyway all at once, others while few enough are missing.
func (p *pass) replace(most int) {
	missing := 0
	var may []*corev1.Pod
	for _, n := range p.Nodes {
		list, there := p.on[n.Name]
		if !there {
			continue
		}
		switch new, old, ok := p.pair(list); {
		case !ok, new == nil && old == nil, new != nil && old != nil:
			missing++
		case new != nil:
			if !p.available(new) {
				missing++
			}
		case !p.available(old):
			missing++
			if old.DeletionTimestamp == nil {
				p.remove = append(p.remove, old)
			}
		case old.DeletionTimestamp != nil:
			missing++
		default:
			may = append(may, old)
		}
	}
	p.remove = append(p.remove, may[:min(len(may), max(0, most-missing))]...)
}

// surge makes new pods beside old ones, and deletes an old one when the new one works.
func (p *pass) surge(most int) {
	extra := 0
	var may []string
	for _, n := range p.Nodes {
		list, there := p.on[n.Name]
		if !there {
			continue
		}
		switch new, old, ok := p.pair(list); {
		case !ok:
			extra++
		case old == nil:
		case new == nil && !pods.Ready(old):
			p.create = append(p.create, n.Name) // nothing is lost by it
		case new == nil:
			may = append(may, n.Name)
		case old.DeletionTimestamp != nil:
			extra++
		case p.available(new):
			p.remove = append(p.remove, old)
		default:
			extra++
		}
	}
	p.create = append(p.create, may[:min(len(may), max(0, most-extra))]...)
}

// status counts nodes.
func (p *pass) status() appsv1.DaemonSetStatus {
	st := *p.Set.Status.DeepCopy()
	st.ObservedGeneration = p.Set.Generation
	st.CurrentNumberScheduled, st.NumberMisscheduled, st.DesiredNumberScheduled, st.NumberReady = 0, 0, 0, 0
	st.UpdatedNumberScheduled, st.NumberAvailable = 0, 0
	for _, n := range p.Nodes {
		run, _ := belongs(p.Set, n)
		list := p.on[n.Name]
		if !run {
			if len(list) > 0 {
				st.NumberMisscheduled++
			}
			continue
		}
		st.DesiredNumberScheduled++
		if len(list) == 0 {
			continue
		}
		st.CurrentNumberScheduled++
		x := list[0]
		if pods.Ready(x) {
			st.NumberReady++
			if p.available(x) {
				st.NumberAvailable++
			}
		}
		if p.updated(x) {
			st.UpdatedNumberScheduled++
		}
	}
	st.NumberUnavailable = st.DesiredNumberScheduled - st.NumberAvailable
	return st
}
