// SPDX-License-Identifier: Apache-2.0

package job

import (
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/controllers/pods"
)

// tally is what the pods of a Job come to.
type tally struct {
	active      []*corev1.Pod
	terminating int
	ready       int
	succeeded   int // counted or to be
	failed      int
	done, bad   indexes // Indexed: those that succeeded, and those given up
	failJob     string  // the message of a podFailurePolicy that ends the Job; "" if none does
	count       batchv1.JobStatus
	strip       []*corev1.Pod // their finalizer may go
}

func tracked(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

// hasFailed: with TerminatingOrFailed, one that is being deleted has as well.
func hasFailed(j *batchv1.Job, p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil && p.Spec.NodeName == "" {
		return true // on no node, nobody would ever say that it failed
	}
	return !onlyFailed(j) && p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded
}

// onlyFailed: a pod is replaced when it is over, not when it begins to end.
func onlyFailed(j *batchv1.Job) bool {
	return deref(j.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed
}

// count moves each pod one step on its way into the numbers.
func count(s *State) tally {
	j := s.Job
	t := tally{count: *j.Status.DeepCopy()}
	limit := int(deref(j.Spec.Completions, 0))
	t.done = parseIndexes(j.Status.CompletedIndexes, limit)
	t.bad = parseIndexes(deref(j.Status.FailedIndexes, ""), limit)
	old := batchv1.UncountedTerminatedPods{}
	if j.Status.UncountedTerminatedPods != nil {
		old = *j.Status.UncountedTerminatedPods
	}
	held := map[types.UID]bool{} // pods that still have the finalizer
	for _, p := range s.Pods {
		if tracked(p) {
			held[p.UID] = true
		}
	}
	uncounted := batchv1.UncountedTerminatedPods{}
	for _, uid := range old.Succeeded {
		if held[uid] {
			uncounted.Succeeded = append(uncounted.Succeeded, uid)
		} else {
			t.count.Succeeded++
		}
	}
	for _, uid := range old.Failed {
		if held[uid] {
			uncounted.Failed = append(uncounted.Failed, uid)
		} else {
			t.count.Failed++
		}
	}
	dying := conditionOf(&j.Status, batchv1.JobFailureTarget) != nil
	for _, p := range s.Pods {
		t.one(j, p, &uncounted, old, dying)
	}
	if indexed(j) {
		t.count.Succeeded = int32(len(t.done)) // what a user lowered or a pod repeated counts once
		t.count.CompletedIndexes = t.done.String()
		if j.Spec.BackoffLimitPerIndex != nil {
			text := t.bad.String()
			t.count.FailedIndexes = &text
		}
		t.succeeded = len(t.done)
	} else {
		t.succeeded = int(t.count.Succeeded) + len(uncounted.Succeeded)
	}
	t.failed = int(t.count.Failed) + len(uncounted.Failed)
	t.count.UncountedTerminatedPods = &uncounted
	t.count.Active = int32(len(t.active))
	t.count.Ready = ptr(int32(t.ready))
	t.count.Terminating = ptr(int32(t.terminating))
	return t
}

// one adds a pod. dying: the Job has failed, so that what it ends has failed too.
func (t *tally) one(j *batchv1.Job, p *corev1.Pod, uncounted *batchv1.UncountedTerminatedPods, old batchv1.UncountedTerminatedPods, dying bool) {
	switch {
	case pods.Active(p):
		t.active = append(t.active, p)
		if pods.Ready(p) {
			t.ready++
		}
		return
	case !pods.Ended(p):
		t.terminating++
	}
	if !tracked(p) {
		return
	}
	switch i := indexOf(p); {
	case slices.Contains(old.Succeeded, p.UID) || slices.Contains(old.Failed, p.UID):
		t.strip = append(t.strip, p)
	case p.Status.Phase == corev1.PodSucceeded && indexed(j):
		if i < 0 || i >= int(deref(j.Spec.Completions, 0)) || t.done[i] {
			t.strip = append(t.strip, p) // an index counts once
			return
		}
		t.done[i] = true
		delete(t.bad, i)
		uncounted.Succeeded = append(uncounted.Succeeded, p.UID)
	case p.Status.Phase == corev1.PodSucceeded:
		uncounted.Succeeded = append(uncounted.Succeeded, p.UID)
	case hasFailed(j, p) || dying && p.DeletionTimestamp != nil:
		t.fail(j, p, i, uncounted)
	}
}

func (t *tally) fail(j *batchv1.Job, p *corev1.Pod, i int, uncounted *batchv1.UncountedTerminatedPods) {
	action, message := judge(j, p)
	switch action {
	case batchv1.PodFailurePolicyActionIgnore:
		t.strip = append(t.strip, p)
		return
	case batchv1.PodFailurePolicyActionFailJob:
		if t.failJob == "" {
			t.failJob = message
		}
	case batchv1.PodFailurePolicyActionFailIndex:
		t.bad[i] = true
	}
	if per := j.Spec.BackoffLimitPerIndex; per != nil && i >= 0 && !t.done[i] && failures(p) >= int(*per) {
		t.bad[i] = true
	}
	uncounted.Failed = append(uncounted.Failed, p.UID)
}

// failures is how often the index of a pod had failed before it.
func failures(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[batchv1.JobIndexFailureCountAnnotation])
	if err != nil {
		return 0
	}
	return n
}

// restarts is how often containers were started again, where that is what counts against the limit.
func restarts(active []*corev1.Pod) (n int32) {
	for _, p := range active {
		if p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodPending {
			continue
		}
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			n += c.RestartCount
		}
	}
	return n
}

// The pause before a failed pod is replaced doubles from the first to the most.
const (
	pauseFirst = 10 * time.Second
	pauseMost  = 10 * time.Minute
)

// pause is how long to wait before pods are made, by the failures since the last success among which pods still exist.
func pause(all []*corev1.Pod, now time.Time) time.Duration {
	var lastSuccess, lastFailure time.Time
	for _, p := range all {
		if p.Status.Phase == corev1.PodSucceeded {
			lastSuccess = later(lastSuccess, endOf(p, now))
		}
	}
	n := 0
	for _, p := range all {
		if p.Status.Phase != corev1.PodFailed {
			continue
		}
		if at := endOf(p, now); at.After(lastSuccess) {
			n++
			lastFailure = later(lastFailure, at)
		}
	}
	if n == 0 {
		return 0
	}
	d := pauseFirst << min(n-1, 6)
	return max(0, min(d, pauseMost)-now.Sub(lastFailure))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// endOf is when the last container of a pod ended, as far as anybody knows.
func endOf(p *corev1.Pod, now time.Time) time.Time {
	var at time.Time
	for _, c := range p.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil {
			at = later(at, t.FinishedAt.Time)
		}
	}
	if at.IsZero() {
		if c := pods.Condition(p, corev1.PodReady); c != nil {
			at = c.LastTransitionTime.Time
		}
	}
	if at.IsZero() && p.DeletionTimestamp != nil {
		at = p.DeletionTimestamp.Time
	}
	if at.IsZero() {
		at = p.CreationTimestamp.Time
	}
	if at.After(now) {
		return now
	}
	return at
}

func ptr[T any](v T) *T { return &v }
