// SPDX-License-Identifier: Apache-2.0

package job

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/naming"
	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/reconcile"
)

// burst is how many pods one pass makes at most.
const burst = 500

func ownerRef(j *batchv1.Job) metav1.OwnerReference {
	return *metav1.NewControllerRef(j, batchv1.SchemeGroupVersion.WithKind("Job"))
}

// manage makes or deletes pods by the difference.
func (p *pass) manage() {
	want := p.wanted()
	extra, rest := p.beyond()
	if n := len(rest) - want; n > 0 {
		slices.SortStableFunc(rest, cheapest)
		extra = append(extra, rest[:n]...)
	}
	if len(extra) > 0 {
		p.why = fmt.Sprintf("%d pods are too many", len(extra))
		p.drop(extra)
		return
	}
	missing := want - len(p.active)
	if onlyFailed(p.Job) {
		missing -= p.terminating
	}
	if missing <= 0 {
		return
	}
	p.why = fmt.Sprintf("%d pods are missing", missing)
	missing = min(missing, burst)
	if p.Job.Spec.BackoffLimitPerIndex == nil {
		if d := pause(p.Pods, p.Now); d > 0 {
			p.later(d)
			return
		}
	}
	if !indexed(p.Job) {
		p.create(missing, func(int, *corev1.Pod) {})
		return
	}
	list := p.pending(missing)
	p.create(len(list), func(n int, x *corev1.Pod) { p.index(x, list[n]) })
}

// wanted is how many pods should run now.
func (p *pass) wanted() int {
	spec := &p.Job.Spec
	parallel := int(deref(spec.Parallelism, 1))
	if spec.Completions == nil {
		if p.succeeded > 0 {
			return min(parallel, len(p.active)) // a work queue: the first success says that it is empty
		}
		return parallel
	}
	left := int(*spec.Completions) - p.succeeded
	if spec.BackoffLimitPerIndex != nil {
		left -= len(p.bad)
	}
	return max(0, min(left, parallel))
}

// beyond splits off the active pods whose index is not wanted any more, or is another's.
func (p *pass) beyond() (extra, rest []*corev1.Pod) {
	if !indexed(p.Job) {
		return nil, slices.Clone(p.active)
	}
	taken := indexes{}
	for _, x := range p.active {
		i := indexOf(x)
		if i < 0 || i >= int(deref(p.Job.Spec.Completions, 0)) || taken[i] || p.done[i] || p.bad[i] {
			extra = append(extra, x)
			continue
		}
		taken[i] = true
		rest = append(rest, x)
	}
	return extra, rest
}

// cheapest sorts first what loses least: without a node, pending, not ready, young.
func cheapest(a, b *corev1.Pod) int {
	rank := func(p *corev1.Pod) int {
		switch {
		case p.Spec.NodeName == "":
			return 0
		case p.Status.Phase != corev1.PodRunning:
			return 1
		case !pods.Ready(p):
			return 2
		}
		return 3
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(b.Name, a.Name))
}

// pending lists up to n indexes that lack a pod and need not wait, lowest first.
func (p *pass) pending(n int) []int {
	taken := indexes{}
	of := map[int][]*corev1.Pod{}
	for _, x := range p.Pods {
		i := indexOf(x)
		of[i] = append(of[i], x)
		if pods.Active(x) || onlyFailed(p.Job) && !pods.Ended(x) {
			taken[i] = true
		}
	}
	var out []int
	for i := 0; i < int(deref(p.Job.Spec.Completions, 0)) && len(out) < n; i++ {
		if taken[i] || p.done[i] || p.bad[i] {
			continue
		}
		if p.Job.Spec.BackoffLimitPerIndex != nil {
			if d := pause(of[i], p.Now); d > 0 {
				p.later(d)
				continue
			}
		}
		out = append(out, i)
	}
	return out
}

// create makes n pods; adorn adds what the nth has of its own, before it gets a name.
func (p *pass) create(n int, adorn func(n int, pod *corev1.Pod)) {
	if n == 0 {
		return
	}
	taken := map[string]bool{}
	for _, x := range p.Pods {
		taken[x.Name] = true
	}
	var batch reconcile.Batch
	var told []string
	for i := 0; i < n; i++ {
		pod := pods.FromTemplate(&p.Job.Spec.Template, p.Job.Namespace, ownerRef(p.Job))
		if !tracked(pod) {
			pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
		}
		pod.GenerateName = p.Job.Name + "-"
		adorn(i, pod)
		for k := i; ; k += n {
			if pod.Name = naming.Generated(pod.GenerateName, p.Job.UID, p.Now, k); !taken[pod.Name] {
				break
			}
		}
		taken[pod.Name] = true
		batch.Actions = append(batch.Actions, reconcile.Create{Object: pod, Failed: &reconcile.Event{
			Regarding: p.Job, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: "Error creating",
		}})
		told = append(told, pod.Name)
	}
	p.acts = append(p.acts, batch)
	for _, name := range told {
		p.event(corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+name)
	}
}

// indexVariable is how containers learn their index.
const indexVariable = "JOB_COMPLETION_INDEX"

// index makes pod the one of an index.
func (p *pass) index(pod *corev1.Pod, i int) {
	text := strconv.Itoa(i)
	with := func(m map[string]string, k, v string) map[string]string {
		m = maps.Clone(m)
		if m == nil {
			m = map[string]string{}
		}
		m[k] = v
		return m
	}
	pod.Annotations = with(pod.Annotations, batchv1.JobCompletionIndexAnnotation, text)
	pod.Labels = with(pod.Labels, batchv1.JobCompletionIndexAnnotation, text)
	if p.Job.Spec.BackoffLimitPerIndex != nil {
		n := 0
		for _, x := range p.Pods {
			if indexOf(x) != i || pods.Active(x) || x.Status.Phase == corev1.PodSucceeded {
				continue
			}
			if action, _ := judge(p.Job, x); action == batchv1.PodFailurePolicyActionIgnore {
				n = max(n, failures(x))
			} else {
				n = max(n, failures(x)+1)
			}
		}
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(n)
	}
	pod.Spec.Hostname = p.Job.Name + "-" + text
	pod.GenerateName = pod.Spec.Hostname + "-"
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for k := range list {
			if slices.ContainsFunc(list[k].Env, func(e corev1.EnvVar) bool { return e.Name == indexVariable }) {
				continue
			}
			list[k].Env = append(list[k].Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"},
			}})
		}
	}
}
