// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// podSecurity holds pods to the level that their namespace's labels pod-security.kubernetes.io/{enforce,audit,warn} name.
// Templates of pods are only warned about: refusing them is the pods' part. The checks are upstream's library.
func podSecurity(state cache.Reader) Step {
	evaluator := sync.OnceValues(func() (policy.Evaluator, error) { return policy.NewEvaluator(policy.DefaultChecks(), nil) })
	return Step{Name: "PodSecurity", Validate: func(_ context.Context, r *Request) error {
		if r.Verb == Delete {
			return nil
		}
		e, err := evaluator()
		if err != nil {
			return err
		}
		p := weighing{r, e, state.Snapshot()}
		if ns, ok := r.Object.(*corev1.Namespace); ok {
			return p.namespace(ns)
		}
		if pod, ok := r.Object.(*corev1.Pod); ok {
			return p.pod(pod)
		}
		if meta, spec, ok := templateOf(r.Object); ok && r.Subresource == "" {
			return p.evaluate(meta, spec, false)
		}
		return nil
	}}
}

// weighing is one evaluation.
type weighing struct {
	r *Request
	e policy.Evaluator
	s *cache.Snapshot
}

func privileged() psapi.Policy {
	lv := psapi.LevelVersion{Level: psapi.LevelPrivileged, Version: psapi.LatestVersion()}
	return psapi.Policy{Enforce: lv, Audit: lv, Warn: lv}
}

func (j weighing) pod(pod *corev1.Pod) error {
	switch j.r.Subresource {
	case "", "resize", "ephemeralcontainers":
	default:
		return nil
	}
	if old, ok := j.r.Old.(*corev1.Pod); ok && j.r.Verb == Update && !matters(pod, old) {
		return nil
	}
	return j.evaluate(&pod.ObjectMeta, &pod.Spec, true)
}

// matters: an update that leaves alone what the checks look at is not held against a pod that was there before the policy.
func matters(pod, old *corev1.Pod) bool {
	seccomp := func(p *corev1.Pod) map[string]string {
		out := map[string]string{}
		for k, v := range p.Annotations {
			if strings.HasPrefix(k, corev1.SeccompPodAnnotationKey) || strings.HasPrefix(k, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) {
				out[k] = v
			}
		}
		return out
	}
	if !equality.Semantic.DeepEqual(seccomp(pod), seccomp(old)) || len(pod.Spec.EphemeralContainers) != len(old.Spec.EphemeralContainers) {
		return true
	}
	a, b := pod.Spec.DeepCopy(), old.Spec.DeepCopy()
	for _, spec := range []*corev1.PodSpec{a, b} {
		for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
			for i := range list {
				list[i].Image = ""
			}
		}
		spec.ActiveDeadlineSeconds, spec.Tolerations = nil, nil
	}
	return !equality.Semantic.DeepEqual(a, b)
}

// evaluate judges a pod, or one that a template would make.
func (j weighing) evaluate(meta *metav1.ObjectMeta, spec *corev1.PodSpec, enforce bool) error {
	ns, ok := cache.Get[corev1.Namespace](j.s, "", j.r.Namespace)
	if !ok {
		return nil // a namespace without labels: NamespaceLifecycle has judged its existence
	}
	want, faults := psapi.PolicyToEvaluate(ns.Labels, privileged())
	if len(faults) > 0 {
		j.r.Note("pod-security.kubernetes.io/error", "Failed to parse policy: "+faults.ToAggregate().Error())
	} else if want.FullyPrivileged() {
		return nil
	}
	results := map[psapi.LevelVersion]policy.AggregateCheckResult{}
	result := func(lv psapi.LevelVersion) policy.AggregateCheckResult {
		if got, ok := results[lv]; ok {
			return got
		}
		results[lv] = policy.AggregateCheckResults(j.e.EvaluatePod(lv, meta, spec))
		return results[lv]
	}
	var refusal error
	if enforce {
		j.r.Note("pod-security.kubernetes.io/enforce-policy", want.Enforce.String())
		if got := result(want.Enforce); !got.Allowed {
			refusal = forbidden(j.r, "violates PodSecurity %q: %s", want.Enforce.String(), got.ForbiddenDetail())
		}
	}
	if got := result(want.Audit); !got.Allowed {
		j.r.Note("pod-security.kubernetes.io/audit-violations", fmt.Sprintf("would violate PodSecurity %q: %s", want.Audit.String(), got.ForbiddenDetail()))
	}
	if refusal != nil {
		return refusal
	}
	if got := result(want.Warn); !got.Allowed {
		j.r.Warn(fmt.Sprintf("would violate PodSecurity %q: %s", want.Warn.String(), got.ForbiddenDetail()))
	}
	return nil
}

// namespace refuses labels that name no level, and warns of pods that a stricter level would not let in again.
func (j weighing) namespace(ns *corev1.Namespace) error {
	if j.r.Subresource != "" {
		return nil
	}
	want, faults := psapi.PolicyToEvaluate(ns.Labels, privileged())
	old, _ := j.r.Old.(*corev1.Namespace)
	if old == nil {
		return invalidLabels(j.r, faults)
	}
	was, oldFaults := psapi.PolicyToEvaluate(old.Labels, privileged())
	if len(faults) > 0 && !equality.Semantic.DeepEqual(faults, oldFaults) {
		return invalidLabels(j.r, faults)
	}
	if want.Enforce == was.Enforce || want.Enforce.Level == psapi.LevelPrivileged ||
		want.Enforce.Version == was.Enforce.Version && psapi.CompareLevels(want.Enforce.Level, was.Enforce.Level) < 1 {
		return nil
	}
	j.warnOfPods(ns.Name, want.Enforce)
	return nil
}

func invalidLabels(r *Request, faults field.ErrorList) error {
	if len(faults) == 0 {
		return nil
	}
	return apierrors.NewInvalid(r.Type.GroupKind(), r.Name, faults)
}

// maxWarnedPods bounds how many pods a change of labels looks at.
const maxWarnedPods = 3000

func (j weighing) warnOfPods(namespace string, lv psapi.LevelVersion) {
	found := map[string][]string{}
	n := 0
	for pod := range cache.List[corev1.Pod](j.s, namespace) {
		if n++; n > maxWarnedPods {
			j.r.Warn(fmt.Sprintf("new PodSecurity enforce level only checked against the first %d existing pods", maxWarnedPods))
			break
		}
		if got := policy.AggregateCheckResults(j.e.EvaluatePod(lv, &pod.ObjectMeta, &pod.Spec)); !got.Allowed {
			found[got.ForbiddenReason()] = append(found[got.ForbiddenReason()], pod.Name)
		}
	}
	if len(found) == 0 {
		return
	}
	j.r.Warn(fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, lv.String()))
	var lines []string
	for reason, pods := range found {
		sort.Strings(pods)
		line := pods[0]
		if more := len(pods) - 1; more == 1 {
			line += " (and 1 other pod)"
		} else if more > 1 {
			line += fmt.Sprintf(" (and %d other pods)", more)
		}
		lines = append(lines, line+": "+reason)
	}
	sort.Strings(lines)
	for _, l := range lines {
		j.r.Warn(l)
	}
}

// templateOf is the pod that an object will make others of.
func templateOf(o kinds.Object) (*metav1.ObjectMeta, *corev1.PodSpec, bool) {
	var t *corev1.PodTemplateSpec
	switch o := o.(type) {
	case *corev1.PodTemplate:
		t = &o.Template
	case *corev1.ReplicationController:
		t = o.Spec.Template
	case *appsv1.Deployment:
		t = &o.Spec.Template
	case *appsv1.ReplicaSet:
		t = &o.Spec.Template
	case *appsv1.StatefulSet:
		t = &o.Spec.Template
	case *appsv1.DaemonSet:
		t = &o.Spec.Template
	case *batchv1.Job:
		t = &o.Spec.Template
	case *batchv1.CronJob:
		t = &o.Spec.JobTemplate.Spec.Template
	}
	if t == nil {
		return nil, nil, false
	}
	return &t.ObjectMeta, &t.Spec, true
}
