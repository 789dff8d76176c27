// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/expr"
	"github.com/knarr/knarr/apiserver/webhook"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// hooks calls admission webhooks.
type hooks struct {
	state    cache.Reader
	authz    *auth.Authorizer
	client   *webhook.Client
	compiler *expr.Compiler
}

// hook is one webhook, of either sort.
type hook struct {
	config, name string
	client       admissionregistrationv1.WebhookClientConfig
	rules        []rule
	failure      *admissionregistrationv1.FailurePolicyType
	match        *admissionregistrationv1.MatchPolicyType
	namespaces   *metav1.LabelSelector
	objects      *metav1.LabelSelector
	effects      *admissionregistrationv1.SideEffectClass
	timeout      *int32
	versions     []string
	conditions   []admissionregistrationv1.MatchCondition
	again        bool // reinvocationPolicy: IfNeeded
}

// key names a hook within the cluster.
func (h *hook) key() string { return h.config + "/" + h.name }

func (h *hook) ignores() bool {
	return h.failure != nil && *h.failure == admissionregistrationv1.Ignore
}

// mutatingWebhooks let servers change what is written, one after the other, by the names of their configurations.
func mutatingWebhooks(x *hooks) Step {
	return Step{Name: "MutatingAdmissionWebhook", Connects: true, Mutate: func(ctx context.Context, r *Request) error {
		if exemptFromHooks(r) {
			return nil
		}
		s := x.state.Snapshot()
		for c := range cache.List[admissionregistrationv1.MutatingWebhookConfiguration](s, "") {
			for i := range c.Webhooks {
				w := &c.Webhooks[i]
				h := &hook{
					c.Name, w.Name, w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.NamespaceSelector, w.ObjectSelector,
					w.SideEffects, w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions,
					w.ReinvocationPolicy != nil && *w.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy,
				}
				if err := x.mutate(ctx, s, h, r); err != nil {
					return err
				}
			}
		}
		return nil
	}}
}

func (x *hooks) mutate(ctx context.Context, s *cache.Snapshot, h *hook, r *Request) error {
	if r.again {
		seen, called := r.seen[h.key()]
		if !h.again || called && equality.Semantic.DeepEqual(seen, r.Object) {
			return nil
		}
	}
	v, ok, err := x.wanted(ctx, s, h, r)
	if !ok || err != nil {
		return err
	}
	answer, err := x.ask(ctx, h, r, v)
	if err != nil || answer == nil {
		return err
	}
	if len(answer.Patch) > 0 && r.Object != nil {
		next, err := patchedBy(r, answer, v)
		if err != nil {
			err = apierrors.NewInternalError(fmt.Errorf("admission webhook %q: %w", h.name, err))
			return x.forgive(h, r, err)
		}
		if !equality.Semantic.DeepEqual(next, r.Object) {
			r.Object, r.changed = next, true
		}
	}
	if h.again && r.Object != nil {
		if r.seen == nil {
			r.seen = map[string]kinds.Object{}
		}
		r.seen[h.key()] = r.Object.DeepCopyObject().(kinds.Object)
	}
	return nil
}

// patchedBy is the object with the patch of a webhook's answer.
func patchedBy(r *Request, answer *admissionv1.AdmissionResponse, v *kinds.Version) (kinds.Object, error) {
	if answer.PatchType == nil || *answer.PatchType != admissionv1.PatchTypeJSONPatch {
		return nil, errs.New(errs.Invalid, "unsupported patch type; it must be JSONPatch")
	}
	before, err := asVersion(r, r.Object, v)
	if err != nil {
		return nil, err
	}
	p, err := jsonpatch.DecodePatch(answer.Patch)
	if err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	if len(p) > maxHookOps {
		return nil, errs.New(errs.TooLarge, "its patch has more than %d operations", maxHookOps)
	}
	after, err := p.Apply(before)
	if err != nil {
		return nil, fmt.Errorf("apply the patch: %w", err)
	}
	return fromVersion(r, after, v)
}

// maxHookOps bounds the patch of one webhook.
const maxHookOps = 10_000

// validatingWebhooks let servers refuse what is written; they are asked all at once.
func validatingWebhooks(x *hooks) Step {
	return Step{Name: "ValidatingAdmissionWebhook", Connects: true, Validate: func(ctx context.Context, r *Request) error {
		if exemptFromHooks(r) {
			return nil
		}
		s := x.state.Snapshot()
		type asked struct {
			h *hook
			v *kinds.Version
		}
		var list []asked
		for c := range cache.List[admissionregistrationv1.ValidatingWebhookConfiguration](s, "") {
			for i := range c.Webhooks {
				w := &c.Webhooks[i]
				h := &hook{
					c.Name, w.Name, w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.NamespaceSelector, w.ObjectSelector,
					w.SideEffects, w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions, false,
				}
				v, ok, err := x.wanted(ctx, s, h, r)
				if err != nil {
					return err
				}
				if ok {
					list = append(list, asked{h, v})
				}
			}
		}
		if len(list) == 0 {
			return nil
		}
		// What servers say goes into copies first: warnings and notes are the request's, and it is not for several writers.
		results, copies := make([]error, len(list)), make([]*Request, len(list))
		done := make(chan struct{}, len(list))
		for i, a := range list {
			one := *r
			one.audit = nil
			var said []string
			one.Warn = func(w string) { said = append(said, w) }
			one.said = &said
			copies[i] = &one
			go func() {
				_, results[i] = x.ask(ctx, a.h, &one, a.v)
				done <- struct{}{}
			}()
		}
		for range list {
			<-done
		}
		for _, c := range copies {
			for k, v := range c.audit {
				r.Note(k, v)
			}
			for _, w := range *c.said {
				r.Warn(w)
			}
		}
		for _, err := range results {
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

// wanted reports whether h is to be asked about r, and in which version.
func (x *hooks) wanted(ctx context.Context, s *cache.Snapshot, h *hook, r *Request) (*kinds.Version, bool, error) {
	v, ok := matchRules(h.rules, h.match, r)
	if !ok {
		return nil, false, nil
	}
	ok, err := matchSelectors(s, h.namespaces, h.objects, r)
	if err != nil {
		return nil, false, apierrors.NewInternalError(fmt.Errorf("webhook %q: %w", h.name, err))
	}
	if !ok || len(h.conditions) == 0 {
		return v, ok, nil
	}
	in, err := input(s, x.authz, r, v)
	if err != nil {
		return nil, false, err
	}
	ok, err = meets(ctx, x.compiler, h.conditions, in)
	if err != nil {
		if h.ignores() {
			return nil, false, nil
		}
		return nil, false, apierrors.NewForbidden(r.Type.Resource().GroupResource(), r.Name, err)
	}
	return v, ok, nil
}

// meets: all conditions hold. One that is false decides, whatever others fail at.
func meets(ctx context.Context, c *expr.Compiler, conditions []admissionregistrationv1.MatchCondition, in *expr.Input) (bool, error) {
	var failed error
	for _, m := range conditions {
		yes, err := c.Compile(m.Expression, expr.Bool).Bool(ctx, in)
		switch {
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("match condition %q: %w", m.Name, err))
		case !yes:
			return false, nil
		}
	}
	return failed == nil, failed
}

// defaultHookTime is upstream's default for timeoutSeconds.
const defaultHookTime = 10 * time.Second

// ask calls one webhook. No answer and no error: it failed and may be ignored.
func (x *hooks) ask(ctx context.Context, h *hook, r *Request, v *kinds.Version) (*admissionv1.AdmissionResponse, error) {
	if r.DryRun && (h.effects == nil || *h.effects != admissionregistrationv1.SideEffectClassNone && *h.effects != admissionregistrationv1.SideEffectClassNoneOnDryRun) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", h.name))
	}
	answer, err := x.call(ctx, h, r, v)
	if err != nil {
		return nil, x.forgive(h, r, apierrors.NewInternalError(fmt.Errorf("failed calling webhook %q: failed to call webhook: %w", h.name, err)))
	}
	for k, value := range answer.AuditAnnotations {
		r.Note(h.name+"/"+k, value)
	}
	for _, w := range answer.Warnings {
		r.Warn(w)
	}
	if !answer.Allowed {
		return nil, denied(h.name, answer.Result)
	}
	return answer, nil
}

// forgive is err, or nothing when the hook's failures are to be ignored; then the note says that it failed open.
func (x *hooks) forgive(h *hook, r *Request, err error) error {
	if !h.ignores() {
		return err
	}
	r.Note("failed-open."+h.config+".webhook.admission.k8s.io/"+h.name, h.name)
	return nil
}

func (x *hooks) call(ctx context.Context, h *hook, r *Request, v *kinds.Version) (*admissionv1.AdmissionResponse, error) {
	version := ""
	for _, a := range h.versions {
		if (a == "v1" || a == "v1beta1") && version == "" {
			version = "admission.k8s.io/" + a
		}
	}
	if version == "" {
		return nil, errs.New(errs.Unsupported, "webhook does not accept known AdmissionReview versions (v1, v1beta1)")
	}
	q := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: version, Kind: "AdmissionReview"}, Request: review(r, v)}
	object, err := subject(r, v)
	if err != nil {
		return nil, err
	}
	old, err := asVersion(r, r.Old, v)
	if err != nil {
		return nil, err
	}
	q.Request.Object, q.Request.OldObject = runtime.RawExtension{Raw: object}, runtime.RawExtension{Raw: old}
	within := defaultHookTime
	if h.timeout != nil {
		within = time.Duration(*h.timeout) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var raw json.RawMessage
	at := targetOf(h.client)
	at.Within = within
	if err := x.client.Post(ctx, at, q, &raw); err != nil {
		return nil, err
	}
	var a admissionv1.AdmissionReview
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	switch {
	case a.Kind != "AdmissionReview" || a.APIVersion != version:
		return nil, errs.New(errs.Invalid, "expected webhook response of %s, Kind=AdmissionReview, got %s, Kind=%s", version, a.APIVersion, a.Kind)
	case a.Response == nil:
		return nil, errs.New(errs.Invalid, "webhook response was absent")
	case a.Response.UID != q.Request.UID && version == "admission.k8s.io/v1":
		return nil, errs.New(errs.Invalid, "expected response.uid=%q, got %q", q.Request.UID, a.Response.UID)
	}
	return a.Response, nil
}

func targetOf(c admissionregistrationv1.WebhookClientConfig) webhook.Target {
	t := webhook.Target{CA: c.CABundle}
	if c.URL != nil {
		t.URL = *c.URL
	}
	if s := c.Service; s != nil {
		t.Namespace, t.Service = s.Namespace, s.Name
		if s.Port != nil {
			t.Port = *s.Port
		}
		if s.Path != nil {
			t.Path = *s.Path
		}
	}
	return t
}

// denied words a refusal as upstream does; a webhook cannot make it a success.
func denied(name string, result *metav1.Status) error {
	by := fmt.Sprintf("admission webhook %q denied the request", name)
	st := metav1.Status{}
	if result != nil {
		st = *result
	}
	if st.Code < http.StatusBadRequest {
		st.Code = http.StatusBadRequest
	}
	st.Status = metav1.StatusFailure
	switch {
	case st.Message != "":
		st.Message = by + ": " + st.Message
	case st.Reason != "":
		st.Message = by + ": " + string(st.Reason)
	default:
		st.Message = by + " without explanation"
	}
	return &apierrors.StatusError{ErrStatus: st}
}
