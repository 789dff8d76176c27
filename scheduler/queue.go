// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// queue holds the pods without a node. One that fitted nowhere waits until something changes that may help (retryAll), but
// not less than its pause, and not more than five minutes.
type queue struct {
	waiting map[types.UID]*waiting
	due     []*waiting // sorted: what is to be placed next is last
}

type waiting struct {
	pod   *corev1.Pod
	fails int
	text  string    // what people were told last
	not   time.Time // not before
	until time.Time // in any case then; zero: at once
	isDue bool
}

const (
	pauseFirst = time.Second
	pauseMost  = 10 * time.Second
	lookAgain  = 5 * time.Minute
)

func (q *queue) reset() { q.waiting, q.due = map[types.UID]*waiting{}, nil }

// put takes in a new pod, or a newer state of one: a change of the pod itself is a reason to try again.
func (q *queue) put(p *corev1.Pod, now time.Time) {
	w := q.waiting[p.UID]
	if w == nil {
		w = &waiting{}
		q.waiting[p.UID] = w
	} else if equal(w.pod.Spec, p.Spec) && equal(w.pod.Labels, p.Labels) {
		w.pod = p // only its status or the like changed, mostly by ourselves
		return
	}
	w.pod = p
	q.makeDue(w, now)
}

// makeDue lets a pod be tried as soon as its pause is over.
func (q *queue) makeDue(w *waiting, now time.Time) {
	if w.not.After(now) {
		w.until = w.not
		return
	}
	if !w.isDue {
		w.isDue = true
		i, _ := slices.BinarySearchFunc(q.due, w, func(a, b *waiting) int { return order(b, a) })
		q.due = slices.Insert(q.due, i, w)
	}
}

// order: higher priority first, then the older.
func order(a, b *waiting) int {
	return cmp.Or(
		-cmp.Compare(priority(a.pod), priority(b.pod)),
		a.pod.CreationTimestamp.Compare(b.pod.CreationTimestamp.Time),
		cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name),
	)
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// take hands out the next pod that is due; if none is, wait says when one will be. Zero: no one is waiting.
func (q *queue) take(now time.Time) (p *corev1.Pod, wait time.Duration) {
	if len(q.due) == 0 {
		for _, w := range q.waiting {
			if w.until.IsZero() {
				continue
			}
			if d := w.until.Sub(now); d <= 0 {
				w.not = time.Time{}
				q.makeDue(w, now)
			} else if wait == 0 || d < wait {
				wait = d
			}
		}
	}
	if len(q.due) == 0 {
		return nil, wait
	}
	w := q.due[len(q.due)-1]
	q.due = q.due[:len(q.due)-1]
	w.isDue, w.until = false, time.Time{}
	return w.pod, 0
}

// later notes that a pod could not be placed, and returns what people were told last time.
func (q *queue) later(p *corev1.Pod, now time.Time) (told string) {
	w := q.waiting[p.UID]
	if w == nil {
		w = &waiting{}
		q.waiting[p.UID] = w
	}
	w.pod = p
	w.fails++
	w.not = now.Add(min(pauseFirst<<min(w.fails-1, 10), pauseMost))
	w.until = now.Add(lookAgain)
	return w.text
}

// again is later for a pod that failed by no fault of the nodes: it is tried when its pause is over, whatever happens.
func (q *queue) again(p *corev1.Pod, now time.Time) {
	q.later(p, now)
	w := q.waiting[p.UID]
	w.until = w.not
}

// untold notes that people were not told after all; the next attempt, when the pause is over, tells them.
func (q *queue) untold(uid types.UID, now time.Time) {
	if w := q.waiting[uid]; w != nil {
		w.text = ""
		q.makeDue(w, now)
	}
}

func (q *queue) told(uid types.UID, text string) { q.waiting[uid].text = text }

// retryAll: something changed that may help.
func (q *queue) retryAll(now time.Time) {
	q.retry(now, func(*corev1.Pod) bool { return true })
}

// retry: something changed that may help some.
func (q *queue) retry(now time.Time, whom func(*corev1.Pod) bool) {
	for _, w := range q.waiting {
		if whom(w.pod) {
			q.makeDue(w, now)
		}
	}
}

// dependsOnPods: where others are decides where it may go.
func dependsOnPods(p *corev1.Pod) bool {
	a := p.Spec.Affinity
	return len(p.Spec.TopologySpreadConstraints) > 0 || a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil)
}

func (q *queue) remove(uid types.UID) {
	w := q.waiting[uid]
	if w == nil {
		return
	}
	delete(q.waiting, uid)
	if w.isDue {
		q.due = slices.DeleteFunc(q.due, func(x *waiting) bool { return x == w })
	}
}

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// setUnschedulable writes the PodScheduled condition; false if it says so already.
func setUnschedulable(p *corev1.Pod, message string, now time.Time) bool {
	want := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
		LastTransitionTime: metav1.NewTime(now).Rfc3339Copy(),
	}
	for i := range p.Status.Conditions {
		have := &p.Status.Conditions[i]
		if have.Type != want.Type {
			continue
		}
		if have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
			return false
		}
		if have.Status == want.Status {
			want.LastTransitionTime = have.LastTransitionTime
		}
		*have = want
		return true
	}
	p.Status.Conditions = append(p.Status.Conditions, want)
	return true
}
