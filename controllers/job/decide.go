// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/reconcile"
)

// Decide says what to do next for one Job.
//
//	gone, deleted   let its pods go
//	over            let its pods go; delete it when its time to live is over
//	decided         end what runs, count it, and call the Job Complete or Failed
//	suspended       end what runs, without counting it
//	else            as many pods as parallelism and completions want
func Decide(s State) reconcile.Plan {
	if s.Job == nil {
		return reconcile.Plan{Actions: untrack(s.Strays), Why: "the job of these pods does not exist"}
	}
	j := s.Job
	if j.DeletionTimestamp != nil {
		return reconcile.Plan{Actions: untrack(s.Pods), Why: "it is being deleted"}
	}
	if end := ended(&j.Status); end != nil {
		return over(&s, end)
	}
	if acts := claims(&s); len(acts) > 0 {
		return reconcile.Plan{Actions: acts, Why: "pods are adopted or released"}
	}
	p := &pass{State: s, tally: count(&s)}
	p.st = &p.tally.count
	suspended := deref(j.Spec.Suspend, false)
	if p.st.StartTime == nil && !suspended {
		p.st.StartTime = ptr(metav1.NewTime(s.Now).Rfc3339Copy())
	}
	switch verdict := p.verdict(suspended); {
	case verdict != nil:
		p.finish(verdict)
	case suspended:
		p.suspend()
	default:
		p.resume()
		p.manage()
	}
	return p.plan()
}

// pass collects what one Decide finds.
type pass struct {
	State
	tally
	st    *batchv1.JobStatus
	acts  []reconcile.Action
	again time.Duration
	why   string
}

// plan puts the status first: what follows relies on it.
func (p *pass) plan() reconcile.Plan {
	out := reconcile.Plan{Again: p.again, Why: p.why}
	if !equality.Semantic.DeepEqual(*p.st, p.Job.Status) {
		c := p.Job.DeepCopy()
		c.Status = *p.st
		out.Actions = append(out.Actions, reconcile.UpdateStatus{Object: c})
	}
	out.Actions = append(append(out.Actions, untrack(p.strip)...), p.acts...)
	return out
}

func (p *pass) later(d time.Duration) {
	if d > 0 && (p.again == 0 || d < p.again) {
		p.again = d
	}
}

func (p *pass) event(kind, reason, message string) {
	p.acts = append(p.acts, reconcile.Event{Regarding: p.Job, Type: kind, Reason: reason, Message: message})
}

// verdict is the interim condition (SuccessCriteriaMet, FailureTarget) that the Job has or is due; nil: it goes on.
func (p *pass) verdict(suspended bool) *batchv1.JobCondition {
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if c := conditionOf(&p.Job.Status, t); c != nil {
			return c
		}
	}
	fail := func(reason, message string) *batchv1.JobCondition {
		return &batchv1.JobCondition{Type: batchv1.JobFailureTarget, Reason: reason, Message: message}
	}
	spec := &p.Job.Spec
	switch {
	case p.failJob != "":
		return fail(batchv1.JobReasonPodFailurePolicy, p.failJob)
	case p.failed > int(deref(spec.BackoffLimit, 6)) || p.restartedTooOften():
		return fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case spec.ActiveDeadlineSeconds != nil && !suspended:
		left := time.Duration(*spec.ActiveDeadlineSeconds)*time.Second - p.Now.Sub(p.st.StartTime.Time)
		if left <= 0 {
			return fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
		}
		p.later(left)
	}
	completions := int(deref(spec.Completions, 0))
	if spec.BackoffLimitPerIndex != nil {
		switch {
		case spec.MaxFailedIndexes != nil && len(p.bad) > int(*spec.MaxFailedIndexes):
			return fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		case len(p.bad) > 0 && len(p.bad)+len(p.done) >= completions:
			return fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	done := func(reason, message string) *batchv1.JobCondition {
		return &batchv1.JobCondition{Type: batchv1.JobSuccessCriteriaMet, Reason: reason, Message: message}
	}
	if m := succeededBy(p.Job, p.done); m != "" && indexed(p.Job) {
		return done(batchv1.JobReasonSuccessPolicy, m)
	}
	if len(p.active) == 0 && (spec.Completions == nil && p.succeeded > 0 || spec.Completions != nil && p.succeeded >= completions) {
		return done(batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
	return nil
}

// restartedTooOften: where the node starts containers again, that is what counts.
func (p *pass) restartedTooOften() bool {
	if p.Job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	limit, n := deref(p.Job.Spec.BackoffLimit, 6), restarts(p.active)
	return limit == 0 && n > 0 || limit > 0 && n >= limit
}

// finish ends what runs; when all is over and counted, so is the Job.
func (p *pass) finish(v *batchv1.JobCondition) {
	set(p.st, v.Type, corev1.ConditionTrue, v.Reason, v.Message, p.Now)
	p.why = "it is decided: " + v.Reason
	if len(p.active) > 0 {
		var batch reconcile.Batch
		for _, x := range p.active {
			batch.Actions = append(batch.Actions, reconcile.Delete{Object: x})
		}
		p.acts = append(p.acts, batch)
		for _, x := range p.active {
			p.event(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+x.Name)
		}
	}
	waiting := p.st.UncountedTerminatedPods
	if len(p.active) > 0 || p.terminating > 0 || len(waiting.Succeeded)+len(waiting.Failed) > 0 {
		return
	}
	if v.Type == batchv1.JobFailureTarget {
		set(p.st, batchv1.JobFailed, corev1.ConditionTrue, v.Reason, v.Message, p.Now)
		p.event(corev1.EventTypeWarning, v.Reason, v.Message)
		return
	}
	set(p.st, batchv1.JobComplete, corev1.ConditionTrue, v.Reason, v.Message, p.Now)
	p.st.CompletionTime = ptr(metav1.NewTime(p.Now).Rfc3339Copy())
	p.event(corev1.EventTypeNormal, "Completed", "Job completed")
}

func (p *pass) suspend() {
	p.why = "it is suspended"
	if set(p.st, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended", p.Now) {
		p.event(corev1.EventTypeNormal, "Suspended", "Job suspended")
	}
	p.drop(p.active)
}

func (p *pass) resume() {
	if set(p.st, batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed", p.Now) {
		p.st.StartTime = ptr(metav1.NewTime(p.Now).Rfc3339Copy())
		p.event(corev1.EventTypeNormal, "Resumed", "Job resumed")
	}
}

// drop deletes pods so that they do not count.
func (p *pass) drop(list []*corev1.Pod) {
	if len(list) == 0 {
		return
	}
	p.acts = append(p.acts, untrack(list)...)
	var batch reconcile.Batch
	for _, x := range list {
		batch.Actions = append(batch.Actions, reconcile.Delete{Object: x})
	}
	p.acts = append(p.acts, batch)
	for _, x := range list {
		p.event(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+x.Name)
	}
}

// over lets the pods of a finished Job go, and it when its time to live is over.
func over(s *State, end *batchv1.JobCondition) reconcile.Plan {
	if acts := untrack(s.Pods); len(acts) > 0 {
		return reconcile.Plan{Actions: acts, Why: "it is over, its pods are counted"}
	}
	ttl := s.Job.Spec.TTLSecondsAfterFinished
	if ttl == nil {
		return reconcile.Plan{}
	}
	left := end.LastTransitionTime.Add(time.Duration(*ttl) * time.Second).Sub(s.Now)
	if left > 0 {
		return reconcile.Plan{Again: left}
	}
	return reconcile.Plan{
		Actions: []reconcile.Action{reconcile.Delete{Object: s.Job, Propagation: string(metav1.DeletePropagationForeground)}},
		Why:     fmt.Sprintf("it ended more than %d seconds ago", *ttl),
	}
}

// untrack takes the finalizer off pods that still have it.
func untrack(list []*corev1.Pod) []reconcile.Action {
	var batch reconcile.Batch
	for _, x := range list {
		if tracked(x) {
			batch.Actions = append(batch.Actions, reconcile.Update{Object: withoutFinalizer(x.DeepCopy())})
		}
	}
	if len(batch.Actions) == 0 {
		return nil
	}
	return []reconcile.Action{batch}
}

func withoutFinalizer(c *corev1.Pod) *corev1.Pod {
	var keep []string
	for _, f := range c.Finalizers {
		if f != batchv1.JobTrackingFinalizer {
			keep = append(keep, f)
		}
	}
	c.Finalizers = keep
	return c
}

// claims adopts and releases.
func claims(s *State) []reconcile.Action {
	var out []reconcile.Action
	for _, x := range s.Orphans {
		if pods.Active(x) {
			c := x.DeepCopy()
			c.OwnerReferences = pods.Adopted(c.OwnerReferences, ownerRef(s.Job))
			if !tracked(c) {
				c.Finalizers = append(c.Finalizers, batchv1.JobTrackingFinalizer)
			}
			out = append(out, reconcile.Update{Object: c})
		}
	}
	for _, x := range s.Pods {
		if x.DeletionTimestamp == nil && !pods.Matches(s.Job.Spec.Selector, x.Labels) {
			c := withoutFinalizer(x.DeepCopy())
			c.OwnerReferences = pods.Released(c.OwnerReferences, s.Job)
			out = append(out, reconcile.Update{Object: c})
		}
	}
	return out
}
