// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"fmt"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// burst is how many objects of an ending definition are deleted in one pass.
const burst = 500

// State is all that a decision about a definition looks at.
type State struct {
	CRD     *apiextensionsv1.CustomResourceDefinition
	Others  []*apiextensionsv1.CustomResourceDefinition // of the same group
	BuiltIn []*kinds.Type                               // of the same group
	Content []kinds.Object                              // its objects, looked for when it is ending
	Served  bool                                        // its kind is in the snapshot: Content is all there is
	Now     time.Time
}

// Controller gives definitions their names and conditions, and deletes the objects of those that end.
func Controller() reconcile.Controller {
	group := func(s *cache.Snapshot, c *apiextensionsv1.CustomResourceDefinition) []reconcile.Key {
		keys := []reconcile.Key{{Name: c.Name}}
		for other := range cache.List[apiextensionsv1.CustomResourceDefinition](s, "") {
			if other.Name != c.Name && other.Spec.Group == c.Spec.Group {
				keys = append(keys, reconcile.Key{Name: other.Name})
			}
		}
		return keys
	}
	gone := func(s *cache.Snapshot, o kinds.Object) []reconcile.Key {
		t := kinds.Of(o)
		if t == nil || t.Custom == nil {
			return nil
		}
		name := t.Plural + "." + t.Group
		if c, ok := cache.Get[apiextensionsv1.CustomResourceDefinition](s, "", name); ok && c.DeletionTimestamp != nil {
			return []reconcile.Key{{Name: name}}
		}
		return nil
	}
	return reconcile.Define("customresourcedefinition-controller",
		[]reconcile.Watch{reconcile.Mapped(group), reconcile.Every(gone, nil)}, Observe, Decide)
}

// Observe gathers the State of the definition that k names.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	c, ok := cache.Get[apiextensionsv1.CustomResourceDefinition](s, "", k.Name)
	if !ok {
		return State{}, false
	}
	st := State{CRD: c, Now: now}
	for other := range cache.List[apiextensionsv1.CustomResourceDefinition](s, "") {
		if other.Name != c.Name && other.Spec.Group == c.Spec.Group {
			st.Others = append(st.Others, other)
		}
	}
	for _, t := range s.Types() {
		if t.Custom == nil && t.Group == c.Spec.Group {
			st.BuiltIn = append(st.BuiltIn, t)
		}
	}
	if c.DeletionTimestamp == nil {
		return st, true
	}
	for _, t := range s.Types() {
		if t.Custom != nil && t.Group == c.Spec.Group && t.Plural == c.Status.AcceptedNames.Plural {
			st.Served = true
			for e := range s.List(t, "") {
				st.Content = append(st.Content, e.Object)
			}
		}
	}
	return st, true
}

// Decide says what a definition needs.
func Decide(s State) reconcile.Plan {
	next := s.CRD.DeepCopy()
	if s.CRD.DeletionTimestamp != nil {
		return end(s, next)
	}
	accept(s, next)
	shape(s, next)
	approval(s, next)
	if equality.Semantic.DeepEqual(next.Status, s.CRD.Status) {
		return reconcile.Plan{}
	}
	return reconcile.Plan{Status: next, Why: "its names or its schema changed"}
}

// end deletes the objects first.
func end(s State, next *apiextensionsv1.CustomResourceDefinition) reconcile.Plan {
	at := slices.Index(next.Finalizers, kinds.CustomResourceCleanup)
	if at < 0 {
		return reconcile.Plan{}
	}
	if len(s.Content) == 0 && (s.Served || !kinds.Established(s.CRD)) {
		next.Finalizers = slices.Delete(next.Finalizers, at, at+1)
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: next}}, Why: "none of its objects is left"}
	}
	p := reconcile.Plan{Why: fmt.Sprintf("%d of its objects are left", len(s.Content))}
	var batch reconcile.Batch
	for _, o := range s.Content {
		if o.GetDeletionTimestamp() == nil && len(batch.Actions) < burst {
			batch.Actions = append(batch.Actions, reconcile.Delete{Object: o, Propagation: string(metav1.DeletePropagationBackground)})
		}
	}
	set(s, next, apiextensionsv1.Terminating, apiextensionsv1.ConditionTrue, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
	switch {
	case !equality.Semantic.DeepEqual(next.Status, s.CRD.Status):
		p.Actions = []reconcile.Action{reconcile.UpdateStatus{Object: next}}
	case len(batch.Actions) > 0:
		p.Actions = []reconcile.Action{batch}
	}
	return p
}

// accept gives the names that nobody of the group has, and establishes what has all of them.
func accept(s State, next *apiextensionsv1.CustomResourceDefinition) {
	resources, types := taken(s)
	want, have := s.CRD.Spec.Names, &next.Status.AcceptedNames
	reason, message := "", ""
	name := func(wanted string, has *string, used map[string]bool, why string) {
		if wanted != *has && used[wanted] {
			reason, message = why, fmt.Sprintf("%q is already in use", wanted)
			return
		}
		*has = wanted
	}
	name(want.Plural, &have.Plural, resources, "PluralConflict")
	name(want.Singular, &have.Singular, resources, "SingularConflict")
	var short []string
	for _, w := range want.ShortNames {
		if !slices.Contains(have.ShortNames, w) && resources[w] {
			short = append(short, fmt.Sprintf("%q is already in use", w))
		}
	}
	switch {
	case len(short) == 1:
		reason, message = "ShortNamesConflict", short[0]
	case len(short) > 1:
		reason, message = "ShortNamesConflict", "["+strings.Join(short, ", ")+"]"
	default:
		have.ShortNames = want.ShortNames
	}
	name(want.Kind, &have.Kind, types, "KindConflict")
	name(want.ListKind, &have.ListKind, types, "ListKindConflict")
	have.Categories = want.Categories
	if reason != "" {
		set(s, next, apiextensionsv1.NamesAccepted, apiextensionsv1.ConditionFalse, reason, message)
		if !kinds.Established(next) {
			set(s, next, apiextensionsv1.Established, apiextensionsv1.ConditionFalse, "NotAccepted", "not all names are accepted")
		}
		return
	}
	set(s, next, apiextensionsv1.NamesAccepted, apiextensionsv1.ConditionTrue, "NoConflicts", "no conflicts found")
	if !kinds.Established(next) {
		set(s, next, apiextensionsv1.Established, apiextensionsv1.ConditionTrue, "InitialNamesAccepted", "the initial names have been accepted")
	}
}

// taken are the words of a group that mean something already.
func taken(s State) (resources, types map[string]bool) {
	resources, types = map[string]bool{}, map[string]bool{}
	for _, o := range s.Others {
		n := o.Status.AcceptedNames
		for _, w := range append([]string{n.Plural, n.Singular}, n.ShortNames...) {
			resources[w] = true
		}
		types[n.Kind], types[n.ListKind] = true, true
	}
	for _, t := range s.BuiltIn {
		for _, w := range append([]string{t.Plural, t.Singular}, t.Short...) {
			resources[w] = true
		}
		types[t.Kind], types[t.Kind+"List"] = true, true
	}
	delete(resources, "")
	delete(types, "")
	return resources, types
}

// shape says when a schema is not structural; such objects are not pruned.
func shape(s State, next *apiextensionsv1.CustomResourceDefinition) {
	faults := violations(s.CRD)
	if faults == "" {
		next.Status.Conditions = slices.DeleteFunc(next.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.NonStructuralSchema
		})
		return
	}
	set(s, next, apiextensionsv1.NonStructuralSchema, apiextensionsv1.ConditionTrue, "Violations", faults)
}

// approval says of a definition in a group of Kubernetes itself whether it was approved there.
func approval(s State, next *apiextensionsv1.CustomResourceDefinition) {
	g := s.CRD.Spec.Group
	if !strings.HasSuffix("."+g, ".k8s.io") && !strings.HasSuffix("."+g, ".kubernetes.io") {
		return
	}
	const cond = apiextensionsv1.KubernetesAPIApprovalPolicyConformant
	value := s.CRD.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation]
	switch {
	case value == "":
		set(s, next, cond, apiextensionsv1.ConditionFalse, "MissingAnnotation",
			fmt.Sprintf("protected groups must have approval annotation %q, see https://github.com/kubernetes/enhancements/pull/1111", apiextensionsv1.KubeAPIApprovedAnnotation))
	case strings.HasPrefix(value, "unapproved"):
		set(s, next, cond, apiextensionsv1.ConditionFalse, "UnapprovedAnnotation", fmt.Sprintf("not approved: %q", value))
	default:
		set(s, next, cond, apiextensionsv1.ConditionTrue, "ApprovedAnnotation", fmt.Sprintf("approved in %v", value))
	}
}

func set(s State, c *apiextensionsv1.CustomResourceDefinition, t apiextensionsv1.CustomResourceDefinitionConditionType, status apiextensionsv1.ConditionStatus, reason, message string) {
	cond := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: t, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(s.Now).Rfc3339Copy(),
	}
	for i := range c.Status.Conditions {
		have := &c.Status.Conditions[i]
		if have.Type != t {
			continue
		}
		if have.Status == status {
			cond.LastTransitionTime = have.LastTransitionTime
			cond.ObservedGeneration = have.ObservedGeneration
		}
		*have = cond
		return
	}
	c.Status.Conditions = append(c.Status.Conditions, cond)
}
