// SPDX-License-Identifier: Apache-2.0

// Package revisions keeps what StatefulSets and DaemonSets remember of their templates: one ControllerRevision each, with a
// patch that kubectl rollout undo applies, and a number that rises. All of it is pure.
//
// The names, labels and the form of the patch are Kubernetes' own. It keeps no state and starts nothing.
package revisions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// History is the revisions of one owner.
type History struct {
	Own     []*appsv1.ControllerRevision // lowest number first
	Orphans []*appsv1.ControllerRevision // they match, and nobody is their controller
}

// Gather finds the revisions of an owner.
func Gather(s *cache.Snapshot, owner kinds.Object, selector *metav1.LabelSelector) History {
	var h History
	for r := range cache.List[appsv1.ControllerRevision](s, owner.GetNamespace()) {
		switch ref := metav1.GetControllerOfNoCopy(r); {
		case ref != nil && ref.UID == owner.GetUID():
			h.Own = append(h.Own, r)
		case ref == nil && r.DeletionTimestamp == nil && pods.Matches(selector, r.Labels):
			h.Orphans = append(h.Orphans, r)
		}
	}
	slices.SortFunc(h.Own, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return h
}

// Data is a template as the patch that restores it.
func Data(t *corev1.PodTemplateSpec) []byte {
	raw, err := json.Marshal(t)
	if err != nil {
		panic(fmt.Sprintf("revisions: a template that is no JSON: %v", err)) // it came as JSON
	}
	var template map[string]any
	if err := json.Unmarshal(raw, &template); err != nil {
		panic(fmt.Sprintf("revisions: %v", err))
	}
	template["$patch"] = "replace"
	raw, err = json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
	if err != nil {
		panic(fmt.Sprintf("revisions: %v", err))
	}
	return raw
}

// Template is the template in a revision.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var d struct {
		Spec struct{ Template corev1.PodTemplateSpec }
	}
	if err := json.Unmarshal(r.Data.Raw, &d); err != nil {
		return nil, fmt.Errorf("read controller revision %s: %w", r.Name, err)
	}
	return &d.Spec.Template, nil
}

// Find is the newest revision with that data; nil if there is none.
func (h History) Find(data []byte) *appsv1.ControllerRevision {
	for _, r := range slices.Backward(h.Own) {
		if Same(r, data) {
			return r
		}
	}
	return nil
}

// Same compares what revisions mean, not how they are written.
func Same(r *appsv1.ControllerRevision, data []byte) bool {
	if bytes.Equal(r.Data.Raw, data) {
		return true
	}
	var a, b any
	return json.Unmarshal(r.Data.Raw, &a) == nil && json.Unmarshal(data, &b) == nil && reflect.DeepEqual(a, b)
}

// Last is the highest number; 0 without revisions.
func (h History) Last() int64 {
	if len(h.Own) == 0 {
		return 0
	}
	return h.Own[len(h.Own)-1].Revision
}

// Hash is that of the data; collisions counts how often another revision had it.
func Hash(data []byte, collisions *int32) string {
	h := fnv.New32()
	h.Write(data)
	if collisions != nil {
		h.Write([]byte(strconv.Itoa(int(*collisions))))
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// New is the next revision of an owner.
func (h History) New(owner kinds.Object, ref metav1.OwnerReference, t *corev1.PodTemplateSpec, label, hash string) *appsv1.ControllerRevision {
	r := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.GetNamespace(), Name: Name(owner.GetName(), hash), Labels: maps.Clone(t.Labels), Annotations: maps.Clone(owner.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{ref},
		},
		Data:     runtime.RawExtension{Raw: Data(t)},
		Revision: h.Last() + 1,
	}
	if r.Labels == nil {
		r.Labels = map[string]string{}
	}
	r.Labels[label] = hash
	return r
}

const maxPrefix = 223

// Name is that of a revision.
func Name(owner, hash string) string {
	return owner[:min(len(owner), maxPrefix)] + "-" + hash
}

// Adopt takes the orphans.
func (h History) Adopt(ref metav1.OwnerReference) []reconcile.Action {
	var out []reconcile.Action
	for _, r := range h.Orphans {
		c := r.DeepCopy()
		c.OwnerReferences = pods.Adopted(c.OwnerReferences, ref)
		out = append(out, reconcile.Update{Object: c})
	}
	return out
}

// Renumber makes an old revision that came back the newest; nothing if it is.
func (h History) Renumber(r *appsv1.ControllerRevision) []reconcile.Action {
	if r.Revision >= h.Last() {
		return nil
	}
	c := r.DeepCopy()
	c.Revision = h.Last() + 1
	return []reconcile.Action{reconcile.Update{Object: c}}
}

// Prune deletes the oldest of those that are not live, past the limit.
func (h History) Prune(limit *int32, live func(*appsv1.ControllerRevision) bool) []reconcile.Action {
	if limit == nil {
		return nil
	}
	var dead []*appsv1.ControllerRevision
	for _, r := range h.Own {
		if !live(r) && r.DeletionTimestamp == nil {
			dead = append(dead, r)
		}
	}
	var out []reconcile.Action
	for _, r := range dead[:max(0, len(dead)-int(*limit))] {
		out = append(out, reconcile.Delete{Object: r})
	}
	return out
}
