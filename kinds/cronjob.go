// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	batchv1 "k8s.io/api/batch/v1"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CronJob is batch/v1 CronJob.
var CronJob = Kind[batchv1.CronJob]{
	Group: "batch", Version: "v1", Name: "CronJob", Plural: "cronjobs", Short: []string{"cj"}, Categories: []string{"all"},
	Validate:  validateCronJob,
	Served:    []Served[batchv1.CronJob]{Alike[batchv1.CronJob, batchv1beta1.CronJob]("batch", "v1beta1", nil, nil)},
	HasStatus: true,
	Default: func(c *batchv1.CronJob) {
		s := &c.Spec
		or(&s.ConcurrencyPolicy, batchv1.AllowConcurrent)
		orSet(&s.Suspend, false)
		orSet(&s.SuccessfulJobsHistoryLimit, 3)
		orSet(&s.FailedJobsHistoryLimit, 1)
		defaultJobTemplate(&s.JobTemplate.Spec)
	},
	Columns: append([]Column[batchv1.CronJob]{
		nameColumn[batchv1.CronJob](),
		text("Schedule", "When it runs, as cron writes it.", 0, func(c *batchv1.CronJob) string { return c.Spec.Schedule }),
		text("Timezone", "In which time zone.", 0, func(c *batchv1.CronJob) string { return either(c.Spec.TimeZone, none) }),
		text("Suspend", "Whether it waits.", 0, func(c *batchv1.CronJob) string {
			if c.Spec.Suspend == nil {
				return unset
			}
			if *c.Spec.Suspend {
				return "True"
			}
			return "False"
		}),
		number("Active", "Jobs that run now.", func(c *batchv1.CronJob) int64 { return int64(len(c.Status.Active)) }),
		since("Last Schedule", "When it ran last.", func(c *batchv1.CronJob) *metav1.Time { return c.Status.LastScheduleTime }),
		ageColumn[batchv1.CronJob](),
	}, templateColumns(func(c *batchv1.CronJob) (*corev1.PodSpec, *metav1.LabelSelector) {
		return &c.Spec.JobTemplate.Spec.Template.Spec, c.Spec.JobTemplate.Spec.Selector
	})...),
}
