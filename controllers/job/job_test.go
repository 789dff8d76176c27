// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

var start = time.Unix(1_000_000, 0)

func job(edit ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sum", UID: "sum-uid"}}
	j.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"uid": "sum-uid"}}
	j.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"uid": "sum-uid"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}, RestartPolicy: corev1.RestartPolicyNever}}
	j.Status.StartTime = ptr(metav1.NewTime(start))
	for _, e := range append([]func(*batchv1.Job){size(1, 1)}, edit...) {
		e(j)
	}
	return j
}

func size(completions, parallelism int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = &completions, &parallelism }
}

func indexedMode(j *batchv1.Job) { j.Spec.CompletionMode = ptr(batchv1.IndexedCompletion) }

func pod(name string, phase corev1.PodPhase, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"uid": "sum-uid"},
			CreationTimestamp: metav1.NewTime(start), Finalizers: []string{batchv1.JobTrackingFinalizer}, OwnerReferences: []metav1.OwnerReference{ownerRef(job())}},
		Spec:   corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: phase},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func at(i int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(i)}
	}
}

func exit(code int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(start)}}}}
	}
}

func uncounted(failed ...types.UID) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Failed: failed}
	}
}

func bare(p *corev1.Pod) { p.Finalizers = nil }

// outcome says in words what a plan would write.
func outcome(p reconcile.Plan) string {
	var out []string
	var walk func([]reconcile.Action)
	walk = func(list []reconcile.Action) {
		for _, a := range list {
			switch a := a.(type) {
			case reconcile.UpdateStatus:
				st := &a.Object.(*batchv1.Job).Status
				text := fmt.Sprintf("%d/%d/%d", st.Active, st.Succeeded, st.Failed)
				if u := st.UncountedTerminatedPods; len(u.Succeeded)+len(u.Failed) > 0 {
					text += fmt.Sprintf(" uncounted %v %v", u.Succeeded, u.Failed)
				}
				for _, c := range st.Conditions {
					text += fmt.Sprintf(" %s=%s(%s)", c.Type, c.Status, c.Reason)
				}
				out = append(out, text)
			case reconcile.Create:
				out = append(out, "create")
			case reconcile.Delete:
				out = append(out, "delete "+a.Object.GetName())
			case reconcile.Update:
				out = append(out, "update "+a.Object.GetName())
			case reconcile.Batch:
				walk(a.Actions)
			}
		}
	}
	walk(p.Actions)
	return strings.Join(out, "; ")
}

func TestDecide(t *testing.T) {
	failRule := func(j *batchv1.Job) {
		j.Spec.PodReplacementPolicy = ptr(batchv1.Failed)
		j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
			{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}},
			{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
		}}
	}
	disrupted := func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
	}
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = ptr(metav1.NewTime(start)) }
	for _, x := range []struct {
		rule string
		j    *batchv1.Job
		pods []*corev1.Pod
		now  time.Duration
		want string
	}{
		{"as many as parallelism", job(size(5, 2)), nil, 0, "0/0/0; create; create"},
		{"no more than are left", job(size(3, 5), func(j *batchv1.Job) { j.Status.Succeeded = 2 }), nil, 0, "0/2/0; create"},
		{"parallelism was lowered", job(size(5, 1)), []*corev1.Pod{pod("a", "Running"), pod("b", "Pending")}, 0, "2/0/0; update b; delete b"},
		{"first the uid is noted", job(), []*corev1.Pod{pod("a", "Failed", exit(1))}, time.Minute, "0/0/0 uncounted [] [a]; create"},
		{"then the finalizer goes", job(uncounted("a")), []*corev1.Pod{pod("a", "Failed", exit(1))}, time.Minute, "0/0/0 uncounted [] [a]; update a; create"},
		{"then it counts", job(uncounted("a")), []*corev1.Pod{pod("a", "Failed", exit(1), bare)}, time.Minute, "0/0/1; create"},
		{"one that vanished counts", job(uncounted("a")), nil, time.Minute, "0/0/1; create"},
		{"a pod that failed is not replaced at once", job(uncounted("a")), []*corev1.Pod{pod("a", "Failed", exit(1), bare)}, time.Second, "0/0/1"},
		{"too many failures", job(func(j *batchv1.Job) { j.Spec.BackoffLimit, j.Status.Failed = ptr(int32(1)), 2 }), []*corev1.Pod{pod("b", "Running")}, 0,
			"1/0/2 FailureTarget=True(BackoffLimitExceeded); delete b"},
		{"no retry wanted, failed", job(func(j *batchv1.Job) { j.Spec.BackoffLimit, j.Status.Failed = ptr(int32(0)), 1 }), nil, 0,
			"0/0/1 FailureTarget=True(BackoffLimitExceeded) Failed=True(BackoffLimitExceeded)"},
		{"the deadline", job(func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr(int64(5)) }), nil, 5 * time.Second,
			"0/0/0 FailureTarget=True(DeadlineExceeded) Failed=True(DeadlineExceeded)"},
		{"all succeeded", job(func(j *batchv1.Job) { j.Status.Succeeded = 1 }), nil, 0, "0/1/0 SuccessCriteriaMet=True(CompletionsReached) Complete=True(CompletionsReached)"},
		{"not before the last is counted", job(), []*corev1.Pod{pod("a", "Succeeded")}, 0, "0/0/0 uncounted [a] [] SuccessCriteriaMet=True(CompletionsReached)"},
		{"suspended", job(func(j *batchv1.Job) { j.Spec.Suspend = ptr(true) }), []*corev1.Pod{pod("a", "Running")}, 0, "1/0/0 Suspended=True(JobSuspended); update a; delete a"},
		{"resumed", job(func(j *batchv1.Job) {
			set(&j.Status, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "", start)
		}), nil, 0, "0/0/0 Suspended=False(JobResumed); create"},
		{"an exit code fails the job", job(failRule), []*corev1.Pod{pod("a", "Failed", exit(42))}, 0, "0/0/0 uncounted [] [a] FailureTarget=True(PodFailurePolicy)"},
		{"a disruption does not count", job(failRule), []*corev1.Pod{pod("a", "Failed", exit(137), disrupted)}, time.Minute, "0/0/0; update a; create"},
		{"one that ends is replaced at once", job(), []*corev1.Pod{pod("a", "Running", deleted)}, 0, "0/0/0 uncounted [] [a]; create"},
		{"or only when it has", job(failRule), []*corev1.Pod{pod("a", "Running", deleted)}, 0, "0/0/0"},
		{"each index once", job(size(3, 3), indexedMode), []*corev1.Pod{pod("a", "Running", at(1))}, 0, "1/0/0; create; create"},
		{"indexes by success policy", job(size(3, 3), indexedMode, func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr("0-1"), SucceededCount: ptr(int32(1))}}}
		}), []*corev1.Pod{pod("a", "Succeeded", at(1)), pod("b", "Running", at(2))}, 0, "1/1/0 uncounted [a] [] SuccessCriteriaMet=True(SuccessPolicy); delete b"},
		{"an index is given up", job(size(2, 2), indexedMode, func(j *batchv1.Job) {
			j.Spec.BackoffLimitPerIndex, j.Spec.BackoffLimit, j.Status.CompletedIndexes = ptr(int32(0)), ptr(int32(1<<31-1)), "1"
		}), []*corev1.Pod{pod("a", "Failed", at(0), exit(1))}, 0, "0/1/0 uncounted [] [a] FailureTarget=True(FailedIndexes)"},
		{"over and old", job(func(j *batchv1.Job) {
			j.Spec.TTLSecondsAfterFinished = ptr(int32(9))
			set(&j.Status, batchv1.JobComplete, corev1.ConditionTrue, "", "", start)
		}), nil, 9 * time.Second, "delete sum"},
		{"deleted, its pods are let go", job(func(j *batchv1.Job) { j.DeletionTimestamp = ptr(metav1.NewTime(start)) }), []*corev1.Pod{pod("a", "Running")}, 0, "update a"},
		{"gone, its pods are let go", nil, []*corev1.Pod{pod("a", "Running")}, 0, "update a"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			s := State{Job: x.j, Pods: x.pods, Now: start.Add(x.now)}
			if x.j == nil {
				s.Strays = x.pods
			}
			if got := outcome(Decide(s)); got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
		})
	}
}

func TestIndexesAreWrittenShort(t *testing.T) {
	for _, text := range []string{"", "0", "1,3-5,7", "0,1,3", "0-9"} {
		if got := parseIndexes(text, 100).String(); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := parseIndexes("1-1000000000,x,2-", 3).String(); got != "1,2" {
		t.Errorf("got %q", got)
	}
}

func TestAnIndexedPodKnowsItsIndex(t *testing.T) {
	p := Decide(State{Job: job(size(1, 1), indexedMode), Now: start})
	x := p.Actions[1].(reconcile.Batch).Actions[0].(reconcile.Create).Object.(*corev1.Pod)
	if x.Spec.Hostname != "sum-0" || !strings.HasPrefix(x.Name, "sum-0-") || x.Labels[batchv1.JobCompletionIndexAnnotation] != "0" || x.Annotations[batchv1.JobCompletionIndexAnnotation] != "0" ||
		x.Spec.Containers[0].Env[0].Name != "JOB_COMPLETION_INDEX" || !slices.Contains(x.Finalizers, batchv1.JobTrackingFinalizer) {
		t.Errorf("%+v", x)
	}
}

func TestItConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		completions := rapid.Int32Range(1, 5).Draw(rt, "completions")
		j := job(size(completions, rapid.Int32Range(1, 4).Draw(rt, "parallelism")), func(j *batchv1.Job) {
			j.Spec.BackoffLimit = ptr(rapid.Int32Range(0, 3).Draw(rt, "backoffLimit"))
		})
		if rapid.Bool().Draw(rt, "indexed") {
			indexedMode(j)
		}
		if rapid.Bool().Draw(rt, "onlyFailed") {
			j.Spec.PodReplacementPolicy = ptr(batchv1.Failed)
		}
		now, failed := start, int32(0)
		w := reconciletest.New(ctx, func() time.Time { return now }, kinds.Object(j))
		settle := func(w *reconciletest.World) {
			now = now.Add(time.Hour)
			for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
				c := p.DeepCopy()
				switch {
				case p.DeletionTimestamp != nil && len(p.Finalizers) == 0:
					w.Remove(p)
					continue
				case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
					continue
				case p.Spec.NodeName == "":
					c.Spec.NodeName = "n"
				case p.DeletionTimestamp == nil && rapid.IntRange(0, 3).Draw(rt, "fate") > 0:
					c.Status.Phase = corev1.PodSucceeded
				default:
					failed++
					c.Status.Phase = corev1.PodFailed
				}
				w.Put(c)
			}
		}
		reconciletest.Converges(rt, w, reconciletest.Check{Settle: settle}, Controller())
		got, _ := cache.Get[batchv1.Job](w.Cache.Snapshot(), "default", "sum")
		st := &got.Status
		if ended(st) == nil || st.Active != 0 || *st.Terminating != 0 {
			rt.Fatalf("status %+v", st)
		}
		if complete := conditionOf(st, batchv1.JobComplete) != nil; complete && st.Succeeded != completions || !complete && st.Failed <= *j.Spec.BackoffLimit {
			rt.Fatalf("status %+v", st)
		}
		if st.Failed > failed {
			rt.Fatalf("%d failures counted of %d", st.Failed, failed)
		}
		for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
			if len(p.Finalizers) > 0 {
				rt.Fatalf("%s is still held", p.Name)
			}
		}
	})
}
