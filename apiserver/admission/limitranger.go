// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// limitRangerNote is the annotation that says what the namespace's defaults filled in.
const limitRangerNote = "kubernetes.io/limit-ranger"

// limitRanger fills in a namespace's default requests and limits, and refuses pods and claims outside of its bounds.
func limitRanger(state cache.Reader) Step {
	return Step{Name: "LimitRanger",
		Mutate: func(_ context.Context, r *Request) error {
			pod, ok := newPod(r)
			if !ok {
				return nil
			}
			for lr := range cache.List[corev1.LimitRange](state.Snapshot(), r.Namespace) {
				if filled := fillLimits(pod, lr); len(filled) > 0 {
					if pod.Annotations == nil {
						pod.Annotations = map[string]string{}
					}
					pod.Annotations[limitRangerNote] = "LimitRanger plugin set: " + strings.Join(filled, "; ")
				}
			}
			return nil
		},
		Validate: func(_ context.Context, r *Request) error {
			if r.Subresource != "" && r.Subresource != "resize" || r.Verb == Delete {
				return nil
			}
			var faults []error
			switch obj := r.Object.(type) {
			case *corev1.Pod:
				if r.Verb != Create && r.Subresource != "resize" || obj.DeletionTimestamp != nil {
					return nil
				}
				for lr := range cache.List[corev1.LimitRange](state.Snapshot(), r.Namespace) {
					faults = append(faults, podLimits(&obj.Spec, lr)...)
				}
			case *corev1.PersistentVolumeClaim:
				for lr := range cache.List[corev1.LimitRange](state.Snapshot(), r.Namespace) {
					faults = append(faults, claimLimits(obj, lr)...)
				}
			}
			if len(faults) == 0 {
				return nil
			}
			return apierrors.NewForbidden(r.Type.Resource().GroupResource(), r.Name, aggregate(faults))
		},
	}
}

// aggregate words several faults as upstream does: one alone, or a list in brackets.
func aggregate(list []error) error {
	if len(list) == 1 {
		return list[0]
	}
	var words []string
	for _, e := range list {
		words = append(words, e.Error())
	}
	return errors.New("[" + strings.Join(words, ", ") + "]")
}

// fillLimits gives each container what the range says for those that ask for nothing. It returns what it set, in words.
func fillLimits(pod *corev1.Pod, lr *corev1.LimitRange) (filled []string) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for _, item := range lr.Spec.Limits {
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		for k, q := range item.DefaultRequest {
			requests[k] = q
		}
		for k, q := range item.Default {
			limits[k] = q
		}
	}
	one := func(kind string, c *corev1.Container) {
		var words []string
		fill := func(what string, into *corev1.ResourceList, from corev1.ResourceList) {
			var set []string
			for k, q := range from {
				if _, has := (*into)[k]; has {
					continue
				}
				if *into == nil {
					*into = corev1.ResourceList{}
				}
				(*into)[k] = q.DeepCopy()
				set = append(set, string(k))
			}
			if len(set) > 0 {
				sort.Strings(set)
				words = append(words, strings.Join(set, ", ")+" "+what+" for "+kind+" "+c.Name)
			}
		}
		fill("request", &c.Resources.Requests, requests)
		fill("limit", &c.Resources.Limits, limits)
		filled = append(filled, words...)
	}
	for i := range pod.Spec.Containers {
		one("container", &pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		one("init container", &pod.Spec.InitContainers[i])
	}
	return filled
}

// podLimits are the ways in which a pod is outside of a range.
func podLimits(spec *corev1.PodSpec, lr *corev1.LimitRange) (faults []error) {
	for _, item := range lr.Spec.Limits {
		switch item.Type {
		case corev1.LimitTypeContainer:
			for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
				for i := range list {
					faults = append(faults, within("Container", item, list[i].Resources.Requests, list[i].Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			requests, limits := kinds.Totals(spec)
			faults = append(faults, within("Pod", item, requests, limits)...)
		}
	}
	return faults
}

func claimLimits(pvc *corev1.PersistentVolumeClaim, lr *corev1.LimitRange) (faults []error) {
	for _, item := range lr.Spec.Limits {
		if item.Type == corev1.LimitTypePersistentVolumeClaim {
			faults = append(faults, within("PersistentVolumeClaim", item, pvc.Spec.Resources.Requests, nil)...)
		}
	}
	return faults
}

// within holds requests and limits against one item of a range.
func within(kind string, item corev1.LimitRangeItem, requests, limits corev1.ResourceList) (faults []error) {
	for _, k := range names(item.Min) {
		if err := atLeast(kind, k, item.Min[k], requests, limits); err != nil {
			faults = append(faults, err)
		}
	}
	for _, k := range names(item.Max) {
		if err := atMost(kind, k, item.Max[k], requests, limits); err != nil {
			faults = append(faults, err)
		}
	}
	for _, k := range names(item.MaxLimitRequestRatio) {
		if err := ratio(kind, k, item.MaxLimitRequestRatio[k], requests, limits); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

func names(l corev1.ResourceList) []corev1.ResourceName {
	out := make([]corev1.ResourceName, 0, len(l))
	for k := range l {
		out = append(out, k)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

func atLeast(kind string, k corev1.ResourceName, least resource.Quantity, requests, limits corev1.ResourceList) error {
	req, hasReq := requests[k]
	lim, hasLim := limits[k]
	switch {
	case !hasReq:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", k, kind, least.String())
	case req.Cmp(least) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", k, kind, least.String(), req.String())
	case hasLim && lim.Cmp(least) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", k, kind, least.String(), lim.String())
	}
	return nil
}

func atMost(kind string, k corev1.ResourceName, most resource.Quantity, requests, limits corev1.ResourceList) error {
	req, hasReq := requests[k]
	lim, hasLim := limits[k]
	if kind == "PersistentVolumeClaim" {
		if hasReq && req.Cmp(most) > 0 {
			return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", k, kind, most.String(), req.String())
		}
		return nil
	}
	switch {
	case !hasLim:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", k, kind, most.String())
	case lim.Cmp(most) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", k, kind, most.String(), lim.String())
	case hasReq && req.Cmp(most) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", k, kind, most.String(), req.String())
	}
	return nil
}

func ratio(kind string, k corev1.ResourceName, most resource.Quantity, requests, limits corev1.ResourceList) error {
	req, hasReq := requests[k]
	lim, hasLim := limits[k]
	switch {
	case !hasReq || req.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", k, kind, most.String())
	case !hasLim || lim.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", k, kind, most.String())
	}
	if got := lim.AsApproximateFloat64() / req.AsApproximateFloat64(); got > most.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", k, kind, most.String(), got)
	}
	return nil
}
