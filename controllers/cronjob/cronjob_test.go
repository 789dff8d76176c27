// SPDX-License-Identifier: Apache-2.0

package cronjob

import (
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func cronJob(schedule string, edit ...func(*batchv1.CronJob)) *batchv1.CronJob {
	c := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tick", UID: "tick-uid", CreationTimestamp: metav1.NewTime(noon.Add(-90 * time.Second))},
		Spec:       batchv1.CronJobSpec{Schedule: schedule, ConcurrencyPolicy: batchv1.AllowConcurrent, TimeZone: new("Etc/UTC")},
	}
	for _, e := range edit {
		e(c)
	}
	return c
}

func job(name string, end batchv1.JobConditionType, edit ...func(*batchv1.Job)) *batchv1.Job {
	j := newJob(cronJob(""), noon, time.UTC)
	j.Name, j.UID = name, types.UID(name)
	j.Status.StartTime = &metav1.Time{Time: noon}
	if end != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: end, Status: corev1.ConditionTrue}}
	}
	for _, e := range edit {
		e(j)
	}
	return j
}

func TestDecide(t *testing.T) {
	policy := func(p batchv1.ConcurrencyPolicy) func(*batchv1.CronJob) {
		return func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = p }
	}
	for _, x := range []struct {
		rule string
		c    *batchv1.CronJob
		jobs []*batchv1.Job
		want string
	}{
		{"due now", cronJob("* * * * *"), nil, `create Job default/tick-29539440; event SuccessfulCreate "Created job tick-29539440"; status CronJob default/tick; again in 1m0.1s`},
		{"not due", cronJob("0 13 * * *"), nil, `again in 1h0m0.1s`},
		{"in its own zone", cronJob("0 21 * * *", func(c *batchv1.CronJob) { c.Spec.TimeZone = new("Asia/Tokyo") }), nil,
			`create Job default/tick-29539440; event SuccessfulCreate "Created job tick-29539440"; status CronJob default/tick; again in 24h0m0.1s`},
		{"once", cronJob("* * * * *", func(c *batchv1.CronJob) { c.Status.LastScheduleTime = &metav1.Time{Time: noon} }), nil, `again in 1m0.1s`},
		{"suspended", cronJob("* * * * *", func(c *batchv1.CronJob) { c.Spec.Suspend = new(true) }), nil, ``},
		{"too late", cronJob("59 11 * * *", func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = new(int64(59)) }), nil,
			`event MissSchedule "Missed scheduled time to start a job: Sun, 01 Mar 2026 11:59:00 +0000"; again in 23h59m0.1s`},
		{"one at a time", cronJob("* * * * *", policy(batchv1.ForbidConcurrent)), []*batchv1.Job{job("a", "")},
			`event JobAlreadyActive "Not starting job because prior execution is running and concurrency policy is Forbid"; status CronJob default/tick; again in 1m0.1s`},
		{"made by hand does not count", cronJob("* * * * *", policy(batchv1.ForbidConcurrent)), []*batchv1.Job{job("a", "", func(j *batchv1.Job) { j.Annotations[byHand] = "manual" })},
			`create Job default/tick-29539440; event SuccessfulCreate "Created job tick-29539440"; status CronJob default/tick; again in 1m0.1s`},
		{"the new for the old", cronJob("* * * * *", policy(batchv1.ReplaceConcurrent)), []*batchv1.Job{job("a", "")},
			`delete Job default/a (Background); event SuccessfulDelete "Deleted job a"; create Job default/tick-29539440; event SuccessfulCreate "Created job tick-29539440"; status CronJob default/tick; again in 1m0.1s`},
		{"history", cronJob("0 13 * * *", func(c *batchv1.CronJob) {
			c.Spec.SuccessfulJobsHistoryLimit, c.Spec.FailedJobsHistoryLimit = new(int32(1)), new(int32(0))
		}), []*batchv1.Job{job("a", batchv1.JobComplete), job("b", batchv1.JobComplete), job("c", batchv1.JobFailed)},
			`delete Job default/a (Background); event SuccessfulDelete "Deleted job a"; delete Job default/c (Background); event SuccessfulDelete "Deleted job c"; again in 1h0m0.1s`},
		{"nonsense", cronJob("x"), nil, `event UnparseableSchedule "unparseable schedule: \"x\" : expected exactly 5 fields, found 1: [x]"`},
	} {
		t.Run(x.rule, func(t *testing.T) {
			if got := Decide(State{CronJob: x.c, Jobs: x.jobs, Now: noon}).String(); got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
		})
	}
}

func TestLastDue(t *testing.T) {
	for _, x := range []struct {
		schedule, after, want string
		missed                int
	}{
		{"* * * * *", "2026-03-01T11:58:30Z", "2026-03-01T12:00:00Z", 2},
		{"* * * * *", "2020-01-01T00:00:00Z", "2026-03-01T12:00:00Z", 101},
		{"0 0 1 1 *", "1900-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 101},
		{"0 0 30 2 *", "2020-01-01T00:00:00Z", "", 0},
		{"@every 7m", "2026-03-01T11:50:00Z", "2026-03-01T11:57:00Z", 1},
	} {
		when, err := cron.ParseStandard(x.schedule)
		after, err2 := time.Parse(time.RFC3339, x.after)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		last, missed := lastDue(when, after, noon)
		got := ""
		if !last.IsZero() {
			got = last.Format(time.RFC3339)
		}
		if got != x.want || missed != x.missed {
			t.Errorf("%s after %s: %s, %d missed", x.schedule, x.after, got, missed)
		}
	}
}

func TestItConverges(t *testing.T) {
	w := reconciletest.New(t.Context(), func() time.Time { return noon }, kinds.Object(cronJob("* * * * *")))
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	c, _ := cache.Get[batchv1.CronJob](w.Cache.Snapshot(), "default", "tick")
	if len(c.Status.Active) != 1 || !c.Status.LastScheduleTime.Time.Equal(noon) {
		t.Errorf("status %+v", c.Status)
	}
	reconciletest.Change(w, func(j *batchv1.Job) bool {
		j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		j.Status.CompletionTime = &metav1.Time{Time: noon}
		return true
	})
	plan, _ := Controller().Explain(w.Cache.Snapshot(), reconcile.Key{Namespace: "default", Name: "tick"}, noon)
	if !strings.Contains(plan.String(), `SawCompletedJob "Saw completed job: tick-29539440, condition: Complete"`) {
		t.Errorf("plan %s", plan)
	}
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	c, _ = cache.Get[batchv1.CronJob](w.Cache.Snapshot(), "default", "tick")
	if len(c.Status.Active) != 0 || c.Status.LastSuccessfulTime == nil {
		t.Errorf("status %+v", c.Status)
	}
}
