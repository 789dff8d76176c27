// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Job is batch/v1 Job.
var Job = Kind[batchv1.Job]{
	Group: "batch", Version: "v1", Name: "Job", Plural: "jobs", Categories: []string{"all"},
	Validate: validateJob, ValidateUpdate: validateJobUpdate,
	HasStatus:    true,
	Default:      defaultJob,
	BeforeCreate: newJob,
	Columns: append([]Column[batchv1.Job]{
		nameColumn[batchv1.Job](),
		text("Status", "Running, or how it ended.", 0, jobState),
		text("Completions", "Pods that succeeded, of those wanted.", 0, jobCompletions),
		{Name: "Duration", Description: "How long it ran, or has run.", Cell: jobDuration},
		ageColumn[batchv1.Job](),
	}, templateColumns(func(j *batchv1.Job) (*corev1.PodSpec, *metav1.LabelSelector) {
		return &j.Spec.Template.Spec, j.Spec.Selector
	})...),
	Fields: func(j *batchv1.Job) fields.Set {
		return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
	},
}

func defaultJob(j *batchv1.Job) {
	if own := j.Spec.Template.Labels; own != nil && len(j.Labels) == 0 {
		j.Labels = maps.Clone(own)
	}
	s := &j.Spec
	if s.Parallelism == nil && s.Completions == nil {
		orSet(&s.Completions, 1)
	}
	orSet(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		orSet(&s.BackoffLimit, math.MaxInt32)
	}
	orSet(&s.BackoffLimit, 6)
	orSet(&s.CompletionMode, batchv1.NonIndexedCompletion)
	orSet(&s.Suspend, false)
	orSet(&s.ManualSelector, false)
	if s.PodFailurePolicy != nil {
		orSet(&s.PodReplacementPolicy, batchv1.Failed)
	}
	orSet(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	defaultJobTemplate(s)
}

// defaultJobTemplate is what a Job and the template of a CronJob have in common.
func defaultJobTemplate(s *batchv1.JobSpec) {
	if p := s.PodFailurePolicy; p != nil {
		for i := range p.Rules {
			for k := range p.Rules[i].OnPodConditions {
				or(&p.Rules[i].OnPodConditions[k].Status, corev1.ConditionTrue)
			}
		}
	}
	defaultPodSpec(&s.Template.Spec)
}

// newJob gives a job a selector that no other job has, its own UID, and its pods the labels to match; the old names of
// both labels too, as others still select by them.
func newJob(j *batchv1.Job) {
	if either(j.Spec.ManualSelector, false) {
		return
	}
	uid := string(j.UID)
	t := &j.Spec.Template
	labels := maps.Clone(t.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for _, l := range [][2]string{
		{legacyJobLabel, j.Name}, {batchv1.JobNameLabel, j.Name}, {legacyUIDLabel, uid}, {batchv1.ControllerUidLabel, uid},
	} {
		if _, ok := labels[l[0]]; !ok { // another value is validation's to refuse
			labels[l[0]] = l[1]
		}
	}
	t.Labels = labels
	if len(j.Labels) == 0 {
		j.Labels = maps.Clone(labels) // as defaults would, the next time
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	match := maps.Clone(j.Spec.Selector.MatchLabels)
	if match == nil {
		match = map[string]string{}
	}
	if _, ok := match[batchv1.ControllerUidLabel]; !ok {
		match[batchv1.ControllerUidLabel] = uid
	}
	j.Spec.Selector = &metav1.LabelSelector{MatchLabels: match, MatchExpressions: j.Spec.Selector.MatchExpressions}
}

const (
	legacyJobLabel = "job-name"
	legacyUIDLabel = "controller-uid"
)

func jobCompletions(j *batchv1.Job) string {
	if n := j.Spec.Completions; n != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *n)
	}
	if n := either(j.Spec.Parallelism, 0); n > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, n)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobState(j *batchv1.Job) string {
	has := func(t batchv1.JobConditionType) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == t && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	}
	switch {
	case has(batchv1.JobComplete):
		return "Complete"
	case has(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case has(batchv1.JobSuspended):
		return "Suspended"
	case has(batchv1.JobFailureTarget):
		return "FailureTarget"
	case has(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobDuration(j *batchv1.Job, now time.Time) any {
	start, end := j.Status.StartTime, j.Status.CompletionTime
	switch {
	case start == nil:
		return ""
	case end == nil:
		return duration.HumanDuration(now.Sub(start.Time))
	}
	return duration.HumanDuration(end.Sub(start.Time))
}
