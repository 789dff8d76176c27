// SPDX-License-Identifier: Apache-2.0

package daemonset

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/naming"
	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/controllers/revisions"
	"github.com/knarr/knarr/state/reconcile"
)

// burst is how many pods one pass makes or deletes at most.
const burst = 250

// failedFor is how long a pod that failed stays, so that one that a node refuses does not come again at once.
const failedFor = 5 * time.Second

func ownerRef(d *appsv1.DaemonSet) metav1.OwnerReference {
	return *metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))
}

// Decide says what to do next for one DaemonSet: claim what is its own, remember the template, one pod on each node, and when that
// is so, replace those of older templates.
func Decide(s State) reconcile.Plan {
	d := s.Set
	if d.DeletionTimestamp != nil {
		return reconcile.Plan{}
	}
	if acts := claims(&s); len(acts) > 0 {
		return reconcile.Plan{Actions: acts, Why: "pods or revisions are adopted or released"}
	}
	data := revisions.Data(&d.Spec.Template)
	current := s.History.Find(data)
	if current == nil {
		return remember(&s)
	}
	if acts := s.History.Renumber(current); len(acts) > 0 {
		return reconcile.Plan{Actions: acts, Why: "an old template came back"}
	}
	p := &pass{State: s, hash: current.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], hashes: map[string]bool{}}
	if p.hash == "" {
		p.hash = templateHash(d)
	}
	p.hashes[p.hash] = true
	for _, r := range s.History.Own {
		if revisions.Same(r, data) {
			p.hashes[r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
		}
	}
	p.spread()
	p.manage()
	if len(p.create)+len(p.remove) == 0 && d.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		p.roll()
	}
	return p.plan()
}

// pass collects what one Decide finds.
type pass struct {
	State
	hash   string          // of the present template, for new pods
	hashes map[string]bool // with which a pod counts as of the present template
	on     map[string][]*corev1.Pod
	create []string // nodes
	remove []*corev1.Pod
	told   []reconcile.Action
	again  time.Duration
}

func (p *pass) updated(x *corev1.Pod) bool {
	return p.hashes[x.Labels[appsv1.ControllerRevisionHashLabelKey]]
}

func (p *pass) available(x *corev1.Pod) bool {
	ok, in := pods.Available(x, p.Set.Spec.MinReadySeconds, p.Now)
	p.later(in)
	return ok
}

func (p *pass) later(d time.Duration) {
	if d > 0 && (p.again == 0 || d < p.again) {
		p.again = d
	}
}

// spread sorts the pods by node, the oldest first.
func (p *pass) spread() {
	p.on = map[string][]*corev1.Pod{}
	for _, x := range p.Pods {
		if pods.Ended(x) && x.DeletionTimestamp != nil {
			continue
		}
		p.on[nodeOf(x)] = append(p.on[nodeOf(x)], x)
	}
	for _, list := range p.on {
		slices.SortFunc(list, func(a, b *corev1.Pod) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
}

// manage: one pod on each node that should have one, none elsewhere.
func (p *pass) manage() {
	known := map[string]bool{}
	for _, n := range p.Nodes {
		known[n.Name] = true
		run, stay := belongs(p.Set, n)
		list := p.on[n.Name]
		switch {
		case run && len(list) == 0:
			p.create = append(p.create, n.Name)
		case stay:
			p.tidy(n.Name, list)
		default:
			p.removeAll(list)
		}
	}
	for node, list := range p.on {
		if known[node] {
			continue
		}
		for _, x := range list {
			if x.Spec.NodeName == "" && x.DeletionTimestamp == nil { // with a node, it is the garbage collector's
				p.remove = append(p.remove, x)
			}
		}
	}
}

func (p *pass) removeAll(list []*corev1.Pod) {
	for _, x := range list {
		if x.DeletionTimestamp == nil {
			p.remove = append(p.remove, x)
		}
	}
}

// tidy deletes what ended, and what is too many on a node.
func (p *pass) tidy(node string, list []*corev1.Pod) {
	var old, new []*corev1.Pod
	for _, x := range list {
		switch {
		case x.DeletionTimestamp != nil:
		case pods.Ended(x):
			p.ended(node, x)
		case p.updated(x):
			new = append(new, x)
		default:
			old = append(old, x)
		}
	}
	if surge, _ := p.bounds(); surge == 0 {
		both := append(slices.Clone(old), new...)
		slices.SortStableFunc(both, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		p.remove = append(p.remove, both[min(1, len(both)):]...)
		return
	}
	p.remove = append(append(p.remove, old[min(1, len(old)):]...), new[min(1, len(new)):]...)
	if len(old) > 0 && len(new) > 0 && (!pods.Ready(old[0]) || p.available(new[0])) {
		p.remove = append(p.remove, old[0])
	}
}

func (p *pass) ended(node string, x *corev1.Pod) {
	what, kind := "succeeded", corev1.EventTypeNormal
	reason := "SucceededDaemonPod"
	if x.Status.Phase == corev1.PodFailed {
		what, kind, reason = "failed", corev1.EventTypeWarning, "FailedDaemonPod"
		if left := failedFor - p.Now.Sub(x.CreationTimestamp.Time); left > 0 {
			p.later(left)
			return
		}
	}
	p.told = append(p.told, reconcile.Event{Regarding: p.Set, Type: kind, Reason: reason,
		Message: fmt.Sprintf("Found %s daemon pod %s/%s on node %s, will try to kill it", what, x.Namespace, x.Name, node)})
	p.remove = append(p.remove, x)
}

// plan makes actions of what was found; the status says how it was before them.
func (p *pass) plan() reconcile.Plan {
	out := reconcile.Plan{Actions: p.told}
	var batch reconcile.Batch
	var told []reconcile.Action
	tell := func(reason, message string) {
		told = append(told, reconcile.Event{Regarding: p.Set, Type: corev1.EventTypeNormal, Reason: reason, Message: message})
	}
	for _, x := range p.remove[:min(len(p.remove), burst)] {
		batch.Actions = append(batch.Actions, reconcile.Delete{Object: x})
		tell("SuccessfulDelete", "Deleted pod: "+x.Name)
	}
	taken := map[string]bool{}
	for _, x := range p.Pods {
		taken[x.Name] = true
	}
	for i, node := range p.create[:min(len(p.create), burst)] {
		x := newPod(p.Set, node, p.hash)
		for n := i; ; n += burst {
			if x.Name = naming.Generated(x.GenerateName, p.Set.UID, p.Now, n); !taken[x.Name] {
				break
			}
		}
		taken[x.Name] = true
		batch.Actions = append(batch.Actions, reconcile.Create{Object: x, Failed: &reconcile.Event{
			Regarding: p.Set, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: "Error creating",
		}})
		tell("SuccessfulCreate", "Created pod: "+x.Name)
	}
	st := p.status()
	out.Again = p.again
	if !equality.Semantic.DeepEqual(st, p.Set.Status) {
		c := p.Set.DeepCopy()
		c.Status = st
		out.Actions = append(out.Actions, reconcile.UpdateStatus{Object: c})
		out.Why = "the counts changed"
	}
	if len(batch.Actions) == 0 {
		out.Actions = append(out.Actions, p.History.Prune(p.Set.Spec.RevisionHistoryLimit, p.live)...)
		return out
	}
	out.Why = fmt.Sprintf("%d pods are to be made and %d to go", len(p.create), len(p.remove))
	out.Actions = append(append(out.Actions, batch), told...)
	return out
}

// live: pods are of it, or will be.
func (p *pass) live(r *appsv1.ControllerRevision) bool {
	hash := r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	return p.hashes[hash] || slices.ContainsFunc(p.Pods, func(x *corev1.Pod) bool {
		return x.Labels[appsv1.ControllerRevisionHashLabelKey] == hash
	})
}

// remember makes the revision of a new template; a name that another has is counted as a collision.
func remember(s *State) reconcile.Plan {
	d := s.Set
	if s.Namesake {
		c := d.DeepCopy()
		n := int32(1)
		if c.Status.CollisionCount != nil {
			n = *c.Status.CollisionCount + 1
		}
		c.Status.CollisionCount = &n
		return reconcile.Plan{Status: c, Why: "the name of its revision is taken"}
	}
	r := s.History.New(d, ownerRef(d), &d.Spec.Template, appsv1.DefaultDaemonSetUniqueLabelKey, templateHash(d))
	return reconcile.Plan{Actions: []reconcile.Action{reconcile.Create{Object: r}}, Why: "there is no revision of this template yet"}
}

// claims adopts and releases.
func claims(s *State) []reconcile.Action {
	out := s.History.Adopt(ownerRef(s.Set))
	for _, x := range s.Orphans {
		if pods.Active(x) {
			c := x.DeepCopy()
			c.OwnerReferences = pods.Adopted(c.OwnerReferences, ownerRef(s.Set))
			out = append(out, reconcile.Update{Object: c})
		}
	}
	for _, x := range s.Pods {
		if x.DeletionTimestamp == nil && !pods.Matches(s.Set.Spec.Selector, x.Labels) {
			c := x.DeepCopy()
			c.OwnerReferences = pods.Released(c.OwnerReferences, s.Set)
			out = append(out, reconcile.Update{Object: c})
		}
	}
	return out
}
