// SPDX-License-Identifier: Apache-2.0

// Package namespace empties namespaces that are being deleted, and then lets them go.
//
// All objects in the namespace are deleted; what waits for somebody (a pod's grace, a finalizer) is waited for, and the
// namespace's conditions say for what. When nothing is left the finalizer "kubernetes" is taken from its spec, which ends
// it. It keeps no state; Decide is pure.
package namespace

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// burst is how many objects one pass deletes at most.
const burst = 500

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Namespace *corev1.Namespace
	Content   []*cache.Entry // all that is in it, by kind
	Now       time.Time
}

// Controller empties namespaces.
func Controller() reconcile.Controller {
	watches := []reconcile.Watch{reconcile.Objects[corev1.Namespace](), reconcile.Every(inDeleted, nil)}
	return reconcile.Define("namespace-controller", watches, Observe, Decide)
}

// inDeleted: an object matters only when its namespace is on its way out.
func inDeleted(s *cache.Snapshot, o kinds.Object) []reconcile.Key {
	if o.GetNamespace() == "" {
		return nil
	}
	ns, ok := cache.Get[corev1.Namespace](s, "", o.GetNamespace())
	if !ok || ns.DeletionTimestamp == nil {
		return nil
	}
	return []reconcile.Key{{Name: ns.Name}}
}

// Observe gathers a namespace and, if it is being deleted, all that is in it.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	ns, ok := cache.Get[corev1.Namespace](s, "", k.Name)
	if !ok || ns.DeletionTimestamp == nil {
		return State{}, false
	}
	st := State{Namespace: ns, Now: now}
	for _, t := range s.Types() {
		if !t.Cluster {
			st.Content = slices.AppendSeq(st.Content, s.List(t, ns.Name))
		}
	}
	return st, true
}

// Decide says what to do next for one namespace.
func Decide(s State) reconcile.Plan {
	ns := s.Namespace
	if len(s.Content) == 0 {
		i := slices.Index(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
		if i < 0 {
			return reconcile.Plan{}
		}
		c := ns.DeepCopy()
		c.Spec.Finalizers = slices.Delete(c.Spec.Finalizers, i, i+1)
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: c, Subresource: "finalize"}}, Why: "it is empty"}
	}
	// Pods end first: what they use, a policy that fences them in above all, must outlast them.
	pods := kinds.For[corev1.Pod]()
	first := slices.ContainsFunc(s.Content, func(e *cache.Entry) bool { return e.Type == pods })
	var batch reconcile.Batch
	for _, e := range s.Content {
		if e.Object.GetDeletionTimestamp() == nil && len(batch.Actions) < burst && (e.Type == pods || !first) {
			batch.Actions = append(batch.Actions, reconcile.Delete{Object: e.Object, Propagation: string(metav1.DeletePropagationBackground)})
		}
	}
	if len(batch.Actions) > 0 {
		return reconcile.Plan{Actions: []reconcile.Action{batch}, Why: fmt.Sprintf("%d objects are in it", len(s.Content))}
	}
	p := reconcile.Plan{Why: "its objects are still ending"}
	c := ns.DeepCopy()
	remaining, holders := tell(s.Content)
	setCondition(c, s.Now, corev1.NamespaceDeletionDiscoveryFailure, false, "", "ResourcesDiscovered", "", "All resources successfully discovered")
	setCondition(c, s.Now, corev1.NamespaceDeletionGVParsingFailure, false, "", "ParsedGroupVersions", "", "All legacy kube types successfully parsed")
	setCondition(c, s.Now, corev1.NamespaceDeletionContentFailure, first && holders != "", "ContentDeletionFailed", "ContentDeleted",
		"Failed to delete all resource types, 1 remaining: unexpected items still remain in namespace: "+ns.Name+" for gvr: /v1, Resource=pods",
		"All content successfully deleted, may be waiting on finalization")
	setCondition(c, s.Now, corev1.NamespaceContentRemaining, remaining != "", "SomeResourcesRemain", "ContentRemoved",
		"Some resources are remaining: "+remaining, "All content successfully removed")
	setCondition(c, s.Now, corev1.NamespaceFinalizersRemaining, holders != "", "SomeFinalizersRemain", "ContentHasNoFinalizers",
		"Some content in the namespace has finalizers remaining: "+holders, "All content-preserving finalizers finished")
	if !equality.Semantic.DeepEqual(c.Status, ns.Status) {
		p.Status = c
	}
	return p
}

// tell says what remains and who holds it, as kubectl describe shows it.
func tell(content []*cache.Entry) (remaining, holders string) {
	kind, held := map[string]int{}, map[string]int{}
	for _, e := range content {
		kind[e.Type.Resource().GroupResource().String()]++
		for _, f := range e.Object.GetFinalizers() {
			held[f]++
		}
	}
	return list(kind, "%s has %d resource instances"), list(held, "%s in %d resource instances")
}

func list(counts map[string]int, format string) string {
	var out []string
	for k, n := range counts {
		out = append(out, fmt.Sprintf(format, k, n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func setCondition(ns *corev1.Namespace, now time.Time, t corev1.NamespaceConditionType, bad bool, why, whyNot, message, otherwise string) {
	c := corev1.NamespaceCondition{Type: t, Status: corev1.ConditionFalse, Reason: whyNot, Message: otherwise}
	if bad {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, why, message
	}
	c.LastTransitionTime = metav1.NewTime(now).Rfc3339Copy()
	for i := range ns.Status.Conditions {
		if have := &ns.Status.Conditions[i]; have.Type == t {
			if have.Status == c.Status {
				c.LastTransitionTime = have.LastTransitionTime
			}
			*have = c
			return
		}
	}
	ns.Status.Conditions = append(ns.Status.Conditions, c)
}
