// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/knarr/knarr/state/cache"
)

// rbacAllows finds a rule of a binding of the user that allows a.
func rbacAllows(s *cache.Snapshot, a Attributes) (reason string, ok bool) {
	for by, rules := range bound(s, a.User, a.Namespace) {
		for i := range rules {
			if ruleAllows(&rules[i], a) {
				return by(), true
			}
		}
	}
	return "", false
}

// bound yields the rules of each role bound to u, cluster-wide and in the namespace, with a function that says through what.
func bound(s *cache.Snapshot, u User, namespace string) iter.Seq2[func() string, []rbacv1.PolicyRule] {
	return func(yield func(func() string, []rbacv1.PolicyRule) bool) {
		for b := range cache.List[rbacv1.ClusterRoleBinding](s, "") {
			if subject, ok := findSubject(b.Subjects, u, ""); ok {
				by := func() string {
					return fmt.Sprintf("RBAC: allowed by ClusterRoleBinding %q of %s %q to %s", b.Name, b.RoleRef.Kind, b.RoleRef.Name, describe(subject))
				}
				if !yield(by, RoleRules(s, b.RoleRef, "")) {
					return
				}
			}
		}
		if namespace == "" {
			return
		}
		for b := range cache.List[rbacv1.RoleBinding](s, namespace) {
			if subject, ok := findSubject(b.Subjects, u, namespace); ok {
				by := func() string {
					return fmt.Sprintf("RBAC: allowed by RoleBinding %q of %s %q to %s", b.Name+"/"+b.Namespace, b.RoleRef.Kind, b.RoleRef.Name, describe(subject))
				}
				if !yield(by, RoleRules(s, b.RoleRef, namespace)) {
					return
				}
			}
		}
	}
}

func findSubject(subjects []rbacv1.Subject, u User, namespace string) (rbacv1.Subject, bool) {
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			if s.Name == u.Name {
				return s, true
			}
		case rbacv1.GroupKind:
			if u.In(s.Name) {
				return s, true
			}
		case rbacv1.ServiceAccountKind:
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			if ns != "" && u.Name == "system:serviceaccount:"+ns+":"+s.Name {
				return s, true
			}
		}
	}
	return rbacv1.Subject{}, false
}

func describe(s rbacv1.Subject) string {
	if s.Kind == rbacv1.ServiceAccountKind {
		return fmt.Sprintf("%s %q", s.Kind, s.Name+"/"+s.Namespace)
	}
	return fmt.Sprintf("%s %q", s.Kind, s.Name)
}

// RoleRules are the rules a reference stands for; of an aggregated ClusterRole, its own and those of all it selects.
func RoleRules(s *cache.Snapshot, ref rbacv1.RoleRef, namespace string) []rbacv1.PolicyRule {
	if ref.Kind == "Role" {
		if r, ok := cache.Get[rbacv1.Role](s, namespace, ref.Name); ok && namespace != "" {
			return r.Rules
		}
		return nil
	}
	r, ok := cache.Get[rbacv1.ClusterRole](s, "", ref.Name)
	if !ok {
		return nil
	}
	if r.AggregationRule == nil {
		return r.Rules
	}
	return append(slices.Clone(r.Rules), aggregated(s, r)...)
}

// aggregated are the rules of the roles that r selects. view is aggregated to edit and edit to admin, so their own selectors
// are followed too, but no further: no cycle can hold us.
func aggregated(s *cache.Snapshot, r *rbacv1.ClusterRole) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for other := range selected(s, r) {
		rules = append(rules, other.Rules...)
		for third := range selected(s, other) {
			rules = append(rules, third.Rules...)
		}
	}
	return rules
}

// selected are the other roles whose labels an aggregated role selects.
func selected(s *cache.Snapshot, r *rbacv1.ClusterRole) iter.Seq[*rbacv1.ClusterRole] {
	return func(yield func(*rbacv1.ClusterRole) bool) {
		if r.AggregationRule == nil {
			return
		}
		for _, term := range r.AggregationRule.ClusterRoleSelectors {
			sel, err := metav1.LabelSelectorAsSelector(&term)
			if err != nil {
				continue
			}
			for other := range cache.List[rbacv1.ClusterRole](s, "") {
				if other.Name != r.Name && sel.Matches(labels.Set(other.Labels)) && !yield(other) {
					return
				}
			}
		}
	}
}

func ruleAllows(r *rbacv1.PolicyRule, a Attributes) bool {
	if !has(r.Verbs, a.Verb) {
		return false
	}
	if a.Path != "" {
		return slices.ContainsFunc(r.NonResourceURLs, func(u string) bool { return pathMatches(u, a.Path) })
	}
	return has(r.APIGroups, a.Group) && resourceMatches(r.Resources, a.Resource, a.Subresource) &&
		(len(r.ResourceNames) == 0 || a.Name != "" && slices.Contains(r.ResourceNames, a.Name))
}

func has(list []string, s string) bool {
	for _, x := range list {
		if x == "*" || x == s {
			return true
		}
	}
	return false
}

func resourceMatches(list []string, resource, sub string) bool {
	full := resource
	if sub != "" {
		full += "/" + sub
	}
	for _, x := range list {
		if x == "*" || x == full || sub != "" && x == "*/"+sub {
			return true
		}
	}
	return false
}

func pathMatches(pattern, path string) bool {
	if stem, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, stem)
	}
	return pattern == path
}

// Rules are all rules that RBAC gives u in a namespace: what SelfSubjectRulesReview shows.
func (z *Authorizer) Rules(u User, namespace string) []rbacv1.PolicyRule {
	if u.In(Masters) {
		return []rbacv1.PolicyRule{everything, everyPath}
	}
	var rules []rbacv1.PolicyRule
	for _, r := range bound(z.State.Snapshot(), u, namespace) {
		rules = append(rules, r...)
	}
	return rules
}

// Uncovered returns what of wanted u may not do himself in the namespace (""; the whole cluster): nobody gives away what he
// does not have.
func (z *Authorizer) Uncovered(u User, namespace string, wanted []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	own := z.Rules(u, namespace)
	var missing []rbacv1.PolicyRule
	for i := range wanted {
		for one := range single(&wanted[i]) {
			if !slices.ContainsFunc(own, func(r rbacv1.PolicyRule) bool { return covers1(&r, &one) }) {
				missing = append(missing, one)
			}
		}
	}
	return missing
}

// single splits a rule into rules of one verb, group, resource and name.
func single(r *rbacv1.PolicyRule) iter.Seq[rbacv1.PolicyRule] {
	return func(yield func(rbacv1.PolicyRule) bool) {
		for _, verb := range r.Verbs {
			for _, url := range r.NonResourceURLs {
				if !yield(rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{url}}) {
					return
				}
			}
			for _, group := range r.APIGroups {
				for _, res := range r.Resources {
					one := rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{res}}
					if len(r.ResourceNames) == 0 {
						if !yield(one) {
							return
						}
					}
					for _, name := range r.ResourceNames {
						one.ResourceNames = []string{name}
						if !yield(one) {
							return
						}
					}
				}
			}
		}
	}
}

// covers1: everything the single rule one allows, r allows.
func covers1(r, one *rbacv1.PolicyRule) bool {
	if !has(r.Verbs, one.Verbs[0]) {
		return false
	}
	if len(one.NonResourceURLs) > 0 {
		return slices.ContainsFunc(r.NonResourceURLs, func(u string) bool {
			return u == one.NonResourceURLs[0] || strings.HasSuffix(u, "*") && pathMatches(u, strings.TrimSuffix(one.NonResourceURLs[0], "*"))
		})
	}
	if !has(r.APIGroups, one.APIGroups[0]) {
		return false
	}
	_, sub, _ := strings.Cut(one.Resources[0], "/")
	if !slices.Contains(r.Resources, "*") && !slices.Contains(r.Resources, one.Resources[0]) && (sub == "" || !slices.Contains(r.Resources, "*/"+sub)) {
		return false
	}
	return len(r.ResourceNames) == 0 || len(one.ResourceNames) > 0 && slices.Contains(r.ResourceNames, one.ResourceNames[0])
}
