// SPDX-License-Identifier: Apache-2.0

// Package cronjob makes the Jobs of CronJobs at their times, and removes old ones.
//
// A time that was missed is made up for once, if it is not older than startingDeadlineSeconds; several that were missed, for the
// last of them. A Job is named by its time, so that no time has two. What people make of a CronJob by hand
// (kubectl create job --from) counts as history, not as running. It keeps no state; Decide is pure.
package cronjob

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	CronJob *batchv1.CronJob
	Jobs    []*batchv1.Job // it is their controller
	Now     time.Time
}

// Controller keeps CronJobs.
func Controller() reconcile.Controller {
	return reconcile.Define("cronjob-controller", []reconcile.Watch{
		reconcile.Objects[batchv1.CronJob](),
		reconcile.OwnedBy[batchv1.CronJob, batchv1.Job](),
	}, Observe, Decide)
}

// Observe gathers one CronJob and its Jobs.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	c, ok := cache.Get[batchv1.CronJob](s, k.Namespace, k.Name)
	if !ok {
		return State{}, false
	}
	st := State{CronJob: c, Now: now}
	for j := range cache.Owned[batchv1.Job](s, c.UID) {
		if metav1.IsControlledBy(j, c) {
			st.Jobs = append(st.Jobs, j)
		}
	}
	slices.SortFunc(st.Jobs, func(a, b *batchv1.Job) int {
		return cmp.Or(began(a).Compare(began(b)), cmp.Compare(a.Name, b.Name))
	})
	return st, true
}

func began(j *batchv1.Job) time.Time {
	if j.Status.StartTime != nil {
		return j.Status.StartTime.Time
	}
	return j.CreationTimestamp.Time
}

// pass collects what one Decide finds.
type pass struct {
	State
	st    *batchv1.CronJobStatus
	acts  []reconcile.Action
	again time.Duration
	why   string
}

// Decide says what to do next for one CronJob.
func Decide(s State) reconcile.Plan {
	c := s.CronJob
	if c.DeletionTimestamp != nil {
		return reconcile.Plan{}
	}
	p := &pass{State: s, st: c.Status.DeepCopy()}
	running := p.follow()
	p.prune()
	if c.Spec.Suspend == nil || !*c.Spec.Suspend {
		p.schedule(running)
	}
	out := reconcile.Plan{Actions: p.acts, Again: p.again, Why: p.why}
	if !equality.Semantic.DeepEqual(*p.st, c.Status) {
		n := c.DeepCopy()
		n.Status = *p.st
		out.Status = n
	}
	return out
}

func (p *pass) event(kind, reason, message string) {
	p.acts = append(p.acts, reconcile.Event{Regarding: p.CronJob, Type: kind, Reason: reason, Message: message})
}

// end is how a Job ended; "" while it has not.
func end(j *batchv1.Job) batchv1.JobConditionType {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

// byHand is the annotation of Jobs that kubectl made.
const byHand = "cronjob.kubernetes.io/instantiate"

// follow writes down which Jobs run and which succeeded last.
func (p *pass) follow() (running []*batchv1.Job) {
	was := p.st.Active
	p.st.Active = nil
	for _, j := range p.Jobs {
		listed := slices.ContainsFunc(was, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		switch how := end(j); {
		case how != "":
			if listed {
				p.event(corev1.EventTypeNormal, "SawCompletedJob", fmt.Sprintf("Saw completed job: %s, condition: %v", j.Name, how))
			}
			if at := j.Status.CompletionTime; how == batchv1.JobComplete && at != nil && (p.st.LastSuccessfulTime == nil || at.After(p.st.LastSuccessfulTime.Time)) {
				p.st.LastSuccessfulTime = at
			}
		case j.Annotations[byHand] == "":
			running = append(running, j)
			p.st.Active = append(p.st.Active, corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: j.Namespace, Name: j.Name, UID: j.UID})
		}
	}
	return running
}

// prune deletes the oldest Jobs that ended, past the limits.
func (p *pass) prune() {
	for _, x := range []struct {
		how   batchv1.JobConditionType
		limit *int32
	}{{batchv1.JobComplete, p.CronJob.Spec.SuccessfulJobsHistoryLimit}, {batchv1.JobFailed, p.CronJob.Spec.FailedJobsHistoryLimit}} {
		if x.limit == nil {
			continue
		}
		var over []*batchv1.Job
		for _, j := range p.Jobs {
			if end(j) == x.how && j.DeletionTimestamp == nil {
				over = append(over, j)
			}
		}
		for _, j := range over[:max(0, len(over)-int(*x.limit))] {
			p.remove(j)
		}
	}
}

func (p *pass) remove(j *batchv1.Job) {
	p.acts = append(p.acts, reconcile.Delete{Object: j, Propagation: string(metav1.DeletePropagationBackground)})
	p.event(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job "+j.Name)
}

// schedule makes the Job of the last time that is due, if there is one.
func (p *pass) schedule(running []*batchv1.Job) {
	spec := &p.CronJob.Spec
	text := spec.Schedule
	zone := time.Local
	if spec.TimeZone != nil {
		var err error
		if zone, err = time.LoadLocation(*spec.TimeZone); err != nil {
			p.event(corev1.EventTypeWarning, "UnknownTimeZone", fmt.Sprintf("invalid timeZone: %q: %s", *spec.TimeZone, err))
			return
		}
		text = "TZ=" + *spec.TimeZone + " " + text
	}
	when, err := cron.ParseStandard(text)
	if err != nil {
		p.event(corev1.EventTypeWarning, "UnparseableSchedule", fmt.Sprintf("unparseable schedule: %q : %s", spec.Schedule, err))
		return
	}
	if next := when.Next(p.Now); !next.IsZero() {
		p.again = next.Sub(p.Now) + 100*time.Millisecond // so that a clock that is read less finely shows it too
	}
	after := p.CronJob.CreationTimestamp.Time
	if p.st.LastScheduleTime != nil {
		after = p.st.LastScheduleTime.Time
	}
	at, missed := lastDue(when, after, p.Now)
	if missed > mostMissed {
		p.event(corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	switch {
	case at.IsZero():
		return
	case spec.StartingDeadlineSeconds != nil && at.Add(time.Duration(*spec.StartingDeadlineSeconds)*time.Second).Before(p.Now):
		p.event(corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: "+at.UTC().Format(time.RFC1123Z))
		return
	case spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(running) > 0:
		p.event(corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return
	}
	if spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		for _, j := range running {
			if j.DeletionTimestamp == nil {
				p.remove(j)
			}
		}
	}
	p.start(at, zone)
}

func (p *pass) start(at time.Time, zone *time.Location) {
	j := newJob(p.CronJob, at, zone)
	p.why = "the time has come for " + j.Name
	p.st.LastScheduleTime = &metav1.Time{Time: at}
	if slices.ContainsFunc(p.Jobs, func(x *batchv1.Job) bool { return x.Name == j.Name }) {
		return // made before, and not written down
	}
	p.acts = append(p.acts, reconcile.Create{Object: j, Failed: &reconcile.Event{
		Regarding: p.CronJob, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: "Error creating job",
	}})
	p.event(corev1.EventTypeNormal, "SuccessfulCreate", "Created job "+j.Name)
}

func newJob(c *batchv1.CronJob, at time.Time, zone *time.Location) *batchv1.Job {
	t := c.Spec.JobTemplate.DeepCopy()
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: fmt.Sprintf("%s-%d", c.Name, at.Unix()/60), Labels: t.Labels, Annotations: maps.Clone(t.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, batchv1.SchemeGroupVersion.WithKind("CronJob"))},
		},
		Spec: t.Spec,
	}
	if j.Annotations == nil {
		j.Annotations = map[string]string{}
	}
	j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.In(zone).Format(time.RFC3339)
	return j
}

// mostMissed is how many missed times nobody needs to be told of.
const mostMissed = 100

// lastDue is the last time after one time and not after now; zero if there is none. missed counts how many there are, up to
// one more than mostMissed. It looks at longer and longer spans before now, for a schedule of minutes can have been down for years.
func lastDue(when cron.Schedule, after, now time.Time) (last time.Time, missed int) {
	for t := when.Next(after); !t.IsZero() && !t.After(now) && missed <= mostMissed; t = when.Next(t) {
		missed++
		last = t
	}
	if missed <= mostMissed {
		return last, missed
	}
	for span := time.Hour; ; span *= 24 {
		from := now.Add(-span)
		if span > 24*365*24*time.Hour || from.Before(last) {
			from = last
		}
		for t := when.Next(from); !t.IsZero() && !t.After(now); t = when.Next(t) {
			last = t
		}
		if last.After(from) || from.Equal(last) {
			return last, missed
		}
	}
}
