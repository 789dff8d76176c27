// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// rule is what webhooks and policies have in common in their rules.
type rule = admissionregistrationv1.RuleWithOperations

// exemptFromHooks: nobody's webhook or policy may stop the administrator from removing it.
func exemptFromHooks(r *Request) bool {
	if r.Type.Group != admissionregistrationv1.GroupName {
		return false
	}
	return strings.HasPrefix(r.Type.Plural, "validating") || strings.HasPrefix(r.Type.Plural, "mutating")
}

// operation is the verb as admission reviews call it.
func operation(r *Request) admissionv1.Operation {
	switch r.Verb {
	case Create:
		return admissionv1.Create
	case Delete:
		return admissionv1.Delete
	case Connect:
		return admissionv1.Connect
	}
	return admissionv1.Update
}

// matchRules finds a rule for r and the version in which the owner of the rules wants to see the object. With Equivalent
// (the default) a rule for any served version of the same objects counts.
func matchRules(rules []rule, policy *admissionregistrationv1.MatchPolicyType, r *Request) (*kinds.Version, bool) {
	own := r.version()
	for i := range rules {
		if matchRule(&rules[i], r, own.GroupVersion()) {
			return own, true
		}
	}
	if policy != nil && *policy == admissionregistrationv1.Exact {
		return nil, false
	}
	for i := range rules {
		for n := range r.Type.Served {
			if v := &r.Type.Served[n]; matchRule(&rules[i], r, v.GroupVersion()) {
				return v, true
			}
		}
	}
	return nil, false
}

// version is the one the client speaks in.
func (r *Request) version() *kinds.Version {
	if r.Version != nil {
		return r.Version
	}
	return &r.Type.Served[0]
}

func matchRule(x *rule, r *Request, gv schema.GroupVersion) bool {
	op := operation(r)
	has := func(list []string, s string) bool { return slices.Contains(list, "*") || slices.Contains(list, s) }
	if !slices.ContainsFunc(x.Operations, func(o admissionregistrationv1.OperationType) bool {
		return o == admissionregistrationv1.OperationAll || string(o) == string(op)
	}) {
		return false
	}
	if !has(x.APIGroups, gv.Group) || !has(x.APIVersions, gv.Version) {
		return false
	}
	if x.Scope != nil {
		switch *x.Scope {
		case admissionregistrationv1.NamespacedScope:
			if r.Type.Cluster {
				return false
			}
		case admissionregistrationv1.ClusterScope:
			if !r.Type.Cluster {
				return false
			}
		}
	}
	return slices.ContainsFunc(x.Resources, func(pattern string) bool {
		res, sub, _ := strings.Cut(pattern, "/")
		return (res == "*" || res == r.Type.Plural) && (sub == "*" || sub == r.Subresource)
	})
}

// matchSelectors holds the namespace and the object against the two selectors. An object or its old state may match.
func matchSelectors(s *cache.Snapshot, namespaces, objects *metav1.LabelSelector, r *Request) (bool, error) {
	ok, err := matchNamespace(s, namespaces, r)
	if !ok || err != nil {
		return false, err
	}
	if emptySelector(objects) {
		return true, nil
	}
	sel, err := metav1.LabelSelectorAsSelector(objects)
	if err != nil {
		return false, err
	}
	for _, o := range []kinds.Object{r.Object, r.Old} {
		if o != nil && sel.Matches(labels.Set(o.GetLabels())) {
			return true, nil
		}
	}
	return false, nil
}

func emptySelector(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

func matchNamespace(s *cache.Snapshot, namespaces *metav1.LabelSelector, r *Request) (bool, error) {
	if emptySelector(namespaces) {
		return true, nil
	}
	sel, err := metav1.LabelSelectorAsSelector(namespaces)
	if err != nil {
		return false, err
	}
	if r.Type == kinds.For[corev1.Namespace]() {
		o := r.Object
		if o == nil || r.Subresource != "" && r.Old != nil {
			o = r.Old
		}
		return o != nil && sel.Matches(labels.Set(o.GetLabels())), nil
	}
	if r.Type.Cluster {
		return true, nil
	}
	ns, ok := cache.Get[corev1.Namespace](s, "", r.Namespace)
	return ok && sel.Matches(labels.Set(ns.Labels)), nil
}
