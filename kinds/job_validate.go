// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateJob(j *batchv1.Job) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &j.Spec
	if s.Selector == nil {
		f.required(p.Child("selector"), "")
	} else {
		validateSelector(f, p.Child("selector"), s.Selector)
		if m, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !m.Matches(labels.Set(s.Template.Labels)) {
			f.invalid(p.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`")
		}
	}
	validateJobSpec(f, p, s)
	return f.list
}

// validateJobSpec is what a Job and the template of a CronJob have in common.
func validateJobSpec(f *faults, p *field.Path, s *batchv1.JobSpec) {
	for _, n := range []struct {
		name string
		v    *int32
	}{
		{"parallelism", s.Parallelism}, {"completions", s.Completions}, {"backoffLimit", s.BackoffLimit},
		{"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished}, {"backoffLimitPerIndex", s.BackoffLimitPerIndex}, {"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		if n.v != nil {
			f.nonNegative(p.Child(n.name), int64(*n.v))
		}
	}
	if n := s.ActiveDeadlineSeconds; n != nil {
		f.nonNegative(p.Child("activeDeadlineSeconds"), *n)
	}
	indexed := false
	if m := s.CompletionMode; m != nil {
		supported(f, p.Child("completionMode"), *m, batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)
		indexed = *m == batchv1.IndexedCompletion
	}
	if indexed && s.Completions == nil {
		f.required(p.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion))
	}
	at := p.Child("template")
	validateTemplate(f, at, &s.Template)
	switch policy := s.Template.Spec.RestartPolicy; policy {
	case corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	case corev1.RestartPolicyAlways: // the default: it was left out
		f.required(at.Child("spec", "restartPolicy"), fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever))
	default:
		f.add(field.NotSupported(at.Child("spec", "restartPolicy"), policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
}

// validateJobUpdate: a job that has begun does what it was made for; while suspended and without a pod its placement may change.
func validateJobUpdate(new, old *batchv1.Job) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if either(new.Spec.CompletionMode, "") != batchv1.IndexedCompletion || either(new.Spec.Completions, 0) != either(new.Spec.Parallelism, 0) {
		f.immutable(p.Child("completions"), new.Spec.Completions, old.Spec.Completions)
	}
	f.immutable(p.Child("selector"), new.Spec.Selector, old.Spec.Selector)
	f.immutable(p.Child("completionMode"), new.Spec.CompletionMode, old.Spec.CompletionMode)
	f.immutable(p.Child("podFailurePolicy"), new.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy)
	f.immutable(p.Child("backoffLimitPerIndex"), new.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex)
	f.immutable(p.Child("managedBy"), new.Spec.ManagedBy, old.Spec.ManagedBy)
	template := new.Spec.Template.DeepCopy()
	if isTrue(old.Spec.Suspend) && old.Status.StartTime == nil {
		o := &old.Spec.Template
		template.Annotations, template.Labels = o.Annotations, o.Labels
		template.Spec.NodeSelector, template.Spec.Affinity = o.Spec.NodeSelector, o.Spec.Affinity
		template.Spec.Tolerations, template.Spec.SchedulingGates = o.Spec.Tolerations, o.Spec.SchedulingGates
	}
	f.immutable(p.Child("template"), template, &old.Spec.Template)
	return f.list
}

// maxCronName leaves room for the time in the names of the jobs.
const maxCronName = 52

func validateCronJob(c *batchv1.CronJob) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &c.Spec
	if len(c.Name) > maxCronName {
		f.invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters")
	}
	if f.need(p.Child("schedule"), s.Schedule) {
		validateSchedule(f, p.Child("schedule"), s.Schedule)
	}
	if s.TimeZone != nil {
		validateTimeZone(f, p.Child("timeZone"), *s.TimeZone)
	}
	if n := s.StartingDeadlineSeconds; n != nil {
		f.nonNegative(p.Child("startingDeadlineSeconds"), *n)
	}
	oneOf(f, p.Child("concurrencyPolicy"), s.ConcurrencyPolicy, batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)
	if n := s.SuccessfulJobsHistoryLimit; n != nil {
		f.nonNegative(p.Child("successfulJobsHistoryLimit"), int64(*n))
	}
	if n := s.FailedJobsHistoryLimit; n != nil {
		f.nonNegative(p.Child("failedJobsHistoryLimit"), int64(*n))
	}
	validateJobSpec(f, p.Child("jobTemplate", "spec"), &s.JobTemplate.Spec)
	return f.list
}

// validateSchedule: the library panics on some texts it cannot read.
func validateSchedule(f *faults, p *field.Path, schedule string) {
	err := func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("invalid schedule format: %v", r)
			}
		}()
		_, err = cron.ParseStandard(schedule)
		return err
	}()
	if err != nil {
		f.invalid(p, schedule, err.Error())
	}
	if strings.Contains(schedule, "TZ") {
		f.invalid(p, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
	}
}

// validateTimeZone: a name of the database of zones; it must not lead out of the folder that has it.
func validateTimeZone(f *faults, p *field.Path, zone string) {
	if zone == "" {
		f.invalid(p, zone, "timeZone must be nil or non-empty string")
		return
	}
	for _, part := range strings.Split(zone, "/") {
		if strings.Trim(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-") != "" || part == "" || part == "." || part == ".." || part[0] == '-' {
			f.invalid(p, zone, "unknown time zone "+zone)
			return
		}
	}
	if strings.EqualFold(zone, "Local") {
		f.invalid(p, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
	}
	if _, err := time.LoadLocation(zone); err != nil {
		f.invalid(p, zone, err.Error())
	}
}
