// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// priority gives each pod the number of its PriorityClass: the one it names, else the cluster's default one, else 0; and
// keeps the default unique.
func priority(state cache.Reader) Step {
	return Step{Name: "Priority",
		Mutate: func(ctx context.Context, r *Request) error {
			if pod, ok := newPod(r); ok {
				return fillPriority(ctx, r, pod, state)
			}
			return nil
		},
		Validate: func(_ context.Context, r *Request) error {
			pc, ok := r.Object.(*schedulingv1.PriorityClass)
			if !ok || r.Subresource != "" || !pc.GlobalDefault || r.Verb == Delete {
				return nil
			}
			for other := range cache.List[schedulingv1.PriorityClass](state.Snapshot(), "") {
				if other.GlobalDefault && other.Name != pc.Name {
					return forbidden(r, "PriorityClass %v is already marked as default. Only one default can exist", other.Name)
				}
			}
			return nil
		},
	}
}

func fillPriority(ctx context.Context, r *Request, pod *corev1.Pod, state cache.Reader) error {
	number, policy := int32(0), corev1.PreemptLowerPriority
	if pod.Spec.PriorityClassName == "" {
		if pc := defaultPriority(state.Snapshot()); pc != nil {
			pod.Spec.PriorityClassName = pc.Name
			number, policy = pc.Value, policyOf(pc)
		}
	} else {
		e, ok, err := r.Lookup.Find(ctx, kinds.For[schedulingv1.PriorityClass](), "", pod.Spec.PriorityClassName)
		if err != nil {
			return err
		}
		if !ok {
			return forbidden(r, "no PriorityClass with name %v was found", pod.Spec.PriorityClassName)
		}
		pc := e.Object.(*schedulingv1.PriorityClass)
		number, policy = pc.Value, policyOf(pc)
	}
	if pod.Spec.Priority != nil && *pod.Spec.Priority != number {
		return forbidden(r, "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, number)
	}
	if p := pod.Spec.PreemptionPolicy; p != nil && *p != policy {
		return forbidden(r, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *p, policy)
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &number, &policy
	return nil
}

func policyOf(pc *schedulingv1.PriorityClass) corev1.PreemptionPolicy {
	if pc.PreemptionPolicy != nil {
		return *pc.PreemptionPolicy
	}
	return corev1.PreemptLowerPriority
}

// defaultPriority is the class marked as the default; of several, which only a race can make, the lowest.
func defaultPriority(s *cache.Snapshot) *schedulingv1.PriorityClass {
	var best *schedulingv1.PriorityClass
	for pc := range cache.List[schedulingv1.PriorityClass](s, "") {
		if pc.GlobalDefault && (best == nil || pc.Value < best.Value) {
			best = pc
		}
	}
	return best
}

// runtimeClass copies a pod's RuntimeClass's overhead and scheduling into the pod.
func runtimeClass() Step {
	find := func(ctx context.Context, r *Request, pod *corev1.Pod) (*nodev1.RuntimeClass, error) {
		if pod.Spec.RuntimeClassName == nil {
			return nil, nil
		}
		e, ok, err := r.Lookup.Find(ctx, kinds.For[nodev1.RuntimeClass](), "", *pod.Spec.RuntimeClassName)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, forbidden(r, "pod rejected: RuntimeClass %q not found", *pod.Spec.RuntimeClassName)
		}
		return e.Object.(*nodev1.RuntimeClass), nil
	}
	return Step{Name: "RuntimeClass",
		Mutate: func(ctx context.Context, r *Request) error {
			pod, ok := newPod(r)
			if !ok {
				return nil
			}
			rc, err := find(ctx, r, pod)
			if err != nil || rc == nil {
				return err
			}
			if rc.Overhead != nil && len(rc.Overhead.PodFixed) > 0 {
				if len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(pod.Spec.Overhead, rc.Overhead.PodFixed) {
					return forbidden(r, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
				}
				pod.Spec.Overhead = rc.Overhead.PodFixed.DeepCopy()
			}
			return scheduleAs(r, pod, rc.Scheduling)
		},
		Validate: func(ctx context.Context, r *Request) error {
			pod, ok := newPod(r)
			if !ok {
				return nil
			}
			rc, err := find(ctx, r, pod)
			if err != nil {
				return err
			}
			if len(pod.Spec.Overhead) > 0 && (rc == nil || rc.Overhead == nil) {
				return forbidden(r, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
			}
			return nil
		},
	}
}

// scheduleAs merges where pods of a RuntimeClass may run into where this one wants to.
func scheduleAs(r *Request, pod *corev1.Pod, s *nodev1.Scheduling) error {
	if s == nil {
		return nil
	}
	for k, v := range s.NodeSelector {
		if have, ok := pod.Spec.NodeSelector[k]; ok && have != v {
			return forbidden(r, "conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", k, v, k, have)
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[k] = v
	}
	for _, t := range s.Tolerations {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(x corev1.Toleration) bool { return equality.Semantic.DeepEqual(x, t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
	return nil
}
