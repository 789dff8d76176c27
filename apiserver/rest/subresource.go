// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// Subresource is a part of an object, or an order given to it, with a kind of its own.
type Subresource struct {
	Name  string
	Kind  schema.GroupVersionKind // of the body; empty: that of the object itself
	Verbs []client.Verb
	of    func(*kinds.Type) bool
	do    func(*Core, context.Context, *Request) (Answer, error)
}

// subresources are all of them but status, which is a way to write the object.
func subresources() []Subresource {
	pods := is[corev1.Pod]
	return []Subresource{
		{"scale", autoscalingv1.SchemeGroupVersion.WithKind("Scale"), []client.Verb{client.Get, client.Patch, client.Update},
			func(t *kinds.Type) bool { return t.Scale != nil }, (*Core).scale},
		{"binding", corev1.SchemeGroupVersion.WithKind("Binding"), []client.Verb{client.Create}, pods, (*Core).bind},
		{"ephemeralcontainers", schema.GroupVersionKind{}, []client.Verb{client.Get, client.Patch, client.Update}, pods, (*Core).ephemeral},
		{"eviction", policyv1.SchemeGroupVersion.WithKind("Eviction"), []client.Verb{client.Create}, pods, (*Core).evict},
		{"token", authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"), []client.Verb{client.Create}, is[corev1.ServiceAccount], (*Core).token},
		{"approval", schema.GroupVersionKind{}, []client.Verb{client.Get, client.Update, client.Patch}, is[certificatesv1.CertificateSigningRequest], (*Core).approval},
		{"finalize", schema.GroupVersionKind{}, []client.Verb{client.Update}, is[corev1.Namespace], (*Core).finalize},
	}
}

func is[T any](t *kinds.Type) bool { return t == kinds.For[T]() }

// Subresources are those of a kind, status left out.
func Subresources(t *kinds.Type) []Subresource {
	var out []Subresource
	for _, s := range subresources() {
		if s.of(t) {
			out = append(out, s)
		}
	}
	return out
}

func (c *Core) subresource(ctx context.Context, r *Request) (Answer, error) {
	for _, s := range Subresources(r.Type) {
		if s.Name != r.Subresource {
			continue
		}
		for _, v := range s.Verbs {
			if v == r.Verb {
				return s.do(c, ctx, r)
			}
		}
		return Answer{}, methodNotSupported(r)
	}
	return Answer{}, apierrors.NewGenericServerResponse(404, "get", noResource, "", "the server could not find the requested resource", 0, true)
}

// scale reads and writes the replica count.
func (c *Core) scale(ctx context.Context, r *Request) (Answer, error) {
	if r.Verb == client.Get {
		e, err := c.get(ctx, r)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Object: scaleOf(r.Type, e.Object)}, nil
	}
	whole := *r
	whole.Subresource = ""
	a, err := c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		want, err := wantedScale(r, scaleOf(r.Type, old.Object))
		if err != nil {
			return decision{}, err
		}
		if faults := kinds.ValidateScale(want); len(faults) > 0 {
			return decision{}, apierrors.NewInvalid(schema.GroupKind{Group: autoscalingv1.GroupName, Kind: "Scale"}, r.Name, faults)
		}
		obj := copyOf(old.Object)
		obj.SetUID(want.UID)
		obj.SetResourceVersion(want.ResourceVersion)
		r.Type.Scale.Set(&obj, want.Spec.Replicas)
		return c.replace(ctx, &whole, old, obj)
	})
	if err != nil {
		return Answer{}, err
	}
	return Answer{Object: scaleOf(r.Type, a.Object.(kinds.Object))}, nil
}

func wantedScale(r *Request, now *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	if r.Verb == client.Update {
		want, ok := r.Object.(*autoscalingv1.Scale)
		if !ok {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("expected a Scale, got a %T", r.Object))
		}
		return want, checkPlace(r, want)
	}
	if err := checkPatch(r); err != nil {
		return nil, err
	}
	want := &autoscalingv1.Scale{}
	return want, patchInto(now, want, r)
}

func scaleOf(t *kinds.Type, o kinds.Object) *autoscalingv1.Scale {
	spec, status, selector := t.Scale.Get(&o)
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
			ResourceVersion: o.GetResourceVersion(), CreationTimestamp: o.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: spec},
		Status: autoscalingv1.ScaleStatus{Replicas: status, Selector: selector},
	}
}

// bind gives a pod its node: once, and not to a pod that is ending.
func (c *Core) bind(ctx context.Context, r *Request) (Answer, error) {
	b, ok := r.Object.(*corev1.Binding)
	if !ok {
		return Answer{}, apierrors.NewBadRequest(fmt.Sprintf("expected a Binding, got a %T", r.Object))
	}
	if err := checkPlace(r, b); err != nil {
		return Answer{}, err
	}
	if b.Target.Kind != "" && b.Target.Kind != "Node" || b.Target.Name == "" {
		list := field.ErrorList{}
		if b.Target.Name == "" {
			list = append(list, field.Required(field.NewPath("target", "name"), ""))
		} else {
			list = append(list, field.NotSupported(field.NewPath("target", "kind"), b.Target.Kind, []string{"Node", "<empty>"}))
		}
		return Answer{}, apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, r.Name, list)
	}
	_, err := c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		pod := copyOf(old.Object).(*corev1.Pod)
		if err := preconditions(r, pod, b.UID, b.ResourceVersion); err != nil {
			return decision{}, err
		}
		gr := schema.GroupResource{Resource: "pods/binding"}
		switch {
		case pod.DeletionTimestamp != nil:
			return decision{}, apierrors.NewConflict(gr, r.Name, fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", r.Name))
		case pod.Spec.NodeName != "":
			return decision{}, apierrors.NewConflict(gr, r.Name, fmt.Errorf("pod %s is already assigned to node %q", r.Name, pod.Spec.NodeName))
		case len(pod.Spec.SchedulingGates) > 0:
			return decision{}, apierrors.NewConflict(gr, r.Name, fmt.Errorf("pod %s has non-empty .spec.schedulingGates", r.Name))
		}
		pod.Spec.NodeName = b.Target.Name
		for k, v := range b.Annotations {
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, k, v)
		}
		scheduled(pod, metav1.NewTime(c.Now()).Rfc3339Copy())
		return decision{next: pod}, nil
	})
	if err != nil {
		return Answer{}, err
	}
	return Answer{Object: &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, Created: true}, nil
}

func scheduled(pod *corev1.Pod, now metav1.Time) {
	cond := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now, ObservedGeneration: pod.Generation}
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodScheduled {
			pod.Status.Conditions[i] = cond
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, cond)
}

// evict deletes a pod as politely as its grace period says.
func (c *Core) evict(ctx context.Context, r *Request) (Answer, error) {
	var ev *policyv1.Eviction
	switch e := r.Object.(type) {
	case *policyv1.Eviction:
		ev = e
	case *policyv1beta1.Eviction: // what kubectl drain sent before 1.22
		ev = &policyv1.Eviction{ObjectMeta: e.ObjectMeta, DeleteOptions: e.DeleteOptions}
	default:
		return Answer{}, apierrors.NewBadRequest(fmt.Sprintf("expected an Eviction, got a %T", r.Object))
	}
	if err := checkPlace(r, ev); err != nil {
		return Answer{}, err
	}
	del := *r
	del.Verb, del.Subresource, del.Object = client.Delete, "", nil
	if o := ev.DeleteOptions; o != nil {
		del.GracePeriod = o.GracePeriodSeconds
		del.DryRun = del.DryRun || len(o.DryRun) > 0
		if o.Preconditions != nil && o.Preconditions.UID != nil {
			del.UID = *o.Preconditions.UID
		}
		if o.Preconditions != nil && o.Preconditions.ResourceVersion != nil {
			del.ResourceVersion = *o.Preconditions.ResourceVersion
		}
	}
	if err := c.spend(ctx, r, del.DryRun); err != nil {
		return Answer{}, err
	}
	if _, err := c.delete(ctx, &del); err != nil {
		return Answer{}, err
	}
	return Answer{Object: &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, Created: true}, nil
}

// token issues a ServiceAccount token, bound to the account's and, if asked, to a pod's life.
func (c *Core) token(ctx context.Context, r *Request) (Answer, error) {
	req, ok := r.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return Answer{}, apierrors.NewBadRequest(fmt.Sprintf("expected a TokenRequest, got a %T", r.Object))
	}
	e, err := c.get(ctx, &Request{Request: client.Request{Type: r.Type, Namespace: r.Namespace, Name: r.Name}})
	if err != nil {
		return Answer{}, err
	}
	req = req.DeepCopy()
	kinds.DefaultTokenRequest(req)
	if faults := kinds.ValidateTokenRequest(req); len(faults) > 0 {
		return Answer{}, apierrors.NewInvalid(schema.GroupKind{Group: authenticationv1.GroupName, Kind: "TokenRequest"}, "", faults)
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = []string{c.Tokens.Issuer()}
	}
	now := c.Now()
	t := auth.Token{
		Namespace: r.Namespace, ServiceAccount: auth.Ref{Name: r.Name, UID: string(e.Object.GetUID())},
		Audiences: req.Spec.Audiences, Issued: now, Expires: now.Add(time.Duration(*req.Spec.ExpirationSeconds) * time.Second),
	}
	if err := c.bindToken(ctx, r, req.Spec.BoundObjectRef, &t); err != nil {
		return Answer{}, err
	}
	if err := c.Steps.Validate(ctx, c.admissionRequest(r, admission.Create, req, e.Object)); err != nil {
		return Answer{}, err
	}
	if req.Status.Token, err = c.Tokens.Sign(t); err != nil {
		return Answer{}, err
	}
	req.Status.ExpirationTimestamp = metav1.NewTime(t.Expires)
	req.Name, req.Namespace = r.Name, r.Namespace
	req.CreationTimestamp = metav1.NewTime(now).Rfc3339Copy()
	req.TypeMeta = metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}
	return Answer{Object: req, Created: true}, nil
}

// bindToken checks the object that a token is to be bound to. A kubelet gets tokens only for pods it runs.
func (c *Core) bindToken(ctx context.Context, r *Request, ref *authenticationv1.BoundObjectReference, t *auth.Token) error {
	node, kubelet := auth.NodeName(r.User)
	gr := r.Type.Resource().GroupResource()
	if ref == nil {
		if kubelet {
			return apierrors.NewForbidden(gr, r.Name, fmt.Errorf("node requested token not bound to a pod"))
		}
		return nil
	}
	var of *kinds.Type
	into := map[string]**auth.Ref{"Pod": &t.Pod, "Secret": &t.Secret, "Node": &t.Node}[ref.Kind]
	switch ref.Kind {
	case "Pod":
		of = kinds.For[corev1.Pod]()
	case "Secret":
		of = kinds.For[corev1.Secret]()
	case "Node":
		of = kinds.For[corev1.Node]()
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to object of type %q", r.Name, ref.Kind))
	}
	if kubelet && ref.Kind != "Pod" {
		return apierrors.NewForbidden(gr, r.Name, fmt.Errorf("node requested token not bound to a pod"))
	}
	e, ok, err := c.Find(ctx, of, r.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if !ok {
		return apierrors.NewNotFound(of.Resource().GroupResource(), ref.Name)
	}
	if ref.UID != "" && ref.UID != e.Object.GetUID() {
		return apierrors.NewConflict(of.Resource().GroupResource(), ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	*into = &auth.Ref{Name: ref.Name, UID: string(e.Object.GetUID())}
	pod, ok := e.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if pod.Spec.ServiceAccountName != r.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", r.Name))
	}
	if kubelet && pod.Spec.NodeName != node {
		return apierrors.NewForbidden(gr, r.Name, fmt.Errorf("node requested token bound to a pod scheduled on a different node"))
	}
	if pod.Spec.NodeName != "" {
		t.Node = &auth.Ref{Name: pod.Spec.NodeName}
		if n, ok := cache.Get[corev1.Node](c.Cache.Snapshot(), "", pod.Spec.NodeName); ok {
			t.Node.UID = string(n.UID)
		}
	}
	return nil
}

// finalize writes the finalizers in a namespace's spec; without any, and ending, it is gone.
func (c *Core) finalize(ctx context.Context, r *Request) (Answer, error) {
	if err := checkPlace(r, r.Object); err != nil {
		return Answer{}, err
	}
	want, ok := r.Object.(*corev1.Namespace)
	if !ok {
		return Answer{}, apierrors.NewBadRequest(fmt.Sprintf("expected a Namespace, got a %T", r.Object))
	}
	return c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		if err := preconditions(r, old.Object, want.UID, want.ResourceVersion); err != nil {
			return decision{}, err
		}
		ns := copyOf(old.Object).(*corev1.Namespace)
		ns.Spec.Finalizers = want.Spec.Finalizers
		if finished(ns) {
			return decision{}, nil
		}
		return decision{next: ns}, nil
	})
}
