// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"math"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateFlowSchema(o *flowcontrolv1.FlowSchema) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &o.Spec
	at := p.Child("matchingPrecedence")
	switch n := s.MatchingPrecedence; {
	case n <= 0:
		f.invalid(at, n, "must be a positive value")
	case n > flowcontrolv1.FlowSchemaMaxMatchingPrecedence:
		f.invalid(at, n, fmt.Sprintf("must not be greater than %v", flowcontrolv1.FlowSchemaMaxMatchingPrecedence))
	case n == 1 && o.Name != flowcontrolv1.FlowSchemaNameExempt:
		f.invalid(at, n, "only the schema named 'exempt' may have matchingPrecedence 1")
	}
	if m := s.DistinguisherMethod; m != nil {
		supported(f, p.Child("distinguisherMethod", "type"), m.Type, flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType)
	}
	level := s.PriorityLevelConfiguration.Name
	if level == "" {
		f.required(p.Child("priorityLevelConfiguration", "name"), "must reference a priority level")
	} else {
		f.each(p.Child("priorityLevelConfiguration", "name"), level, validation.IsDNS1123Subdomain(level))
	}
	for i := range s.Rules {
		validateFlowRules(f, p.Child("rules").Index(i), &s.Rules[i])
	}
	return f.list
}

func validateFlowRules(f *faults, p *field.Path, r *flowcontrolv1.PolicyRulesWithSubjects) {
	if len(r.Subjects) == 0 {
		f.required(p.Child("subjects"), "subjects must contain at least one value")
	}
	for i := range r.Subjects {
		validateFlowSubject(f, p.Child("subjects").Index(i), &r.Subjects[i])
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		f.required(p, "at least one of resourceRules and nonResourceRules has to be non-empty")
	}
	for i, rule := range r.ResourceRules {
		at := p.Child("resourceRules").Index(i)
		validateFlowVerbs(f, at.Child("verbs"), rule.Verbs)
		wildcards(f, at.Child("apiGroups"), rule.APIGroups, "resource rules must supply at least one api group", "api groups")
		wildcards(f, at.Child("resources"), rule.Resources, "resource rules must supply at least one resource", "resources")
		if len(rule.Namespaces) > 0 || !rule.ClusterScope {
			wildcards(f, at.Child("namespaces"), rule.Namespaces, "resource rules that are not cluster scoped must supply at least one namespace", "namespaces")
		}
		if !slices.Contains(rule.Namespaces, "*") {
			for k, ns := range rule.Namespaces {
				for _, why := range validation.IsDNS1123Label(ns) {
					f.invalid(at.Child("namespaces").Index(k), ns, "each member of this list must be '*' or a DNS-1123 label; "+why)
				}
			}
		}
	}
	for i, rule := range r.NonResourceRules {
		at := p.Child("nonResourceRules").Index(i)
		validateFlowVerbs(f, at.Child("verbs"), rule.Verbs)
		wildcards(f, at.Child("nonResourceURLs"), rule.NonResourceURLs, "nonResourceURLs must contain at least one value", "non-resource URLs")
		if !slices.Contains(rule.NonResourceURLs, "*") {
			for k, u := range rule.NonResourceURLs {
				validateFlowURL(f, at.Child("nonResourceURLs").Index(k), u)
			}
		}
	}
}

// wildcards: something must be named, and * alone.
func wildcards(f *faults, p *field.Path, list []string, missing, others string) {
	if len(list) == 0 {
		f.required(p, missing)
	}
	if len(list) > 1 && slices.Contains(list, "*") {
		f.invalid(p, list, "if '*' is present, must not specify other "+others)
	}
}

func validateFlowVerbs(f *faults, p *field.Path, verbs []string) {
	known := []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch", "*"}
	wildcards(f, p, verbs, "verbs must contain at least one value", "verbs")
	for _, v := range verbs {
		if !slices.Contains(known, v) {
			f.add(field.NotSupported(p, verbs, known[:len(known)-1]))
			return
		}
	}
}

func validateFlowURL(f *faults, p *field.Path, u string) {
	stars := strings.Count(u, "*")
	switch {
	case u == "/":
	case u == "":
		f.invalid(p, u, "must not be empty")
	case !strings.HasPrefix(u, "/"):
		f.invalid(p, u, "must start with slash")
	case strings.Contains(u, " "):
		f.invalid(p, u, "must not contain white-space")
	case strings.Contains(u, "//"):
		f.invalid(p, u, "must not contain double slash")
	case stars > 1 || stars == 1 && !strings.HasSuffix(u, "/*"):
		f.invalid(p, u, "wildcard can only do suffix matching")
	}
}

func validateFlowSubject(f *faults, p *field.Path, s *flowcontrolv1.Subject) {
	switch s.Kind {
	case flowcontrolv1.SubjectKindUser:
		if s.User == nil {
			f.required(p.Child("user"), "user is required when subject kind is 'User'")
		} else {
			f.need(p.Child("user", "name"), s.User.Name)
		}
	case flowcontrolv1.SubjectKindGroup:
		if s.Group == nil {
			f.required(p.Child("group"), "group is required when subject kind is 'Group'")
		} else {
			f.need(p.Child("group", "name"), s.Group.Name)
		}
	case flowcontrolv1.SubjectKindServiceAccount:
		validateFlowAccount(f, p.Child("serviceAccount"), s.ServiceAccount)
	default:
		f.add(field.NotSupported(p.Child("kind"), s.Kind, []flowcontrolv1.SubjectKind{
			flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser}))
		return
	}
	for _, c := range []struct {
		kind  flowcontrolv1.SubjectKind
		name  string
		there bool
	}{
		{flowcontrolv1.SubjectKindUser, "user", s.User != nil},
		{flowcontrolv1.SubjectKindGroup, "group", s.Group != nil},
		{flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil},
	} {
		if c.there && c.kind != s.Kind {
			f.forbidden(p.Child(c.name), fmt.Sprintf("%s is forbidden when subject kind is not '%s'", c.name, c.kind))
		}
	}
}

func validateFlowAccount(f *faults, p *field.Path, a *flowcontrolv1.ServiceAccountSubject) {
	if a == nil {
		f.required(p, "serviceAccount is required when subject kind is 'ServiceAccount'")
		return
	}
	if f.need(p.Child("name"), a.Name) && a.Name != flowcontrolv1.NameAll {
		f.each(p.Child("name"), a.Name, validation.IsDNS1123Subdomain(a.Name))
	}
	if a.Namespace == "" {
		f.required(p.Child("namespace"), "must specify namespace for service account")
		return
	}
	f.each(p.Child("namespace"), a.Namespace, validation.IsDNS1123Label(a.Namespace))
}

func validatePriorityLevel(o *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &o.Spec
	if (o.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt) != (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		f.invalid(p.Child("type"), s.Type, "must be 'Exempt' if and only if `name` is 'exempt'")
	}
	oneOf(f, p.Child("type"), s.Type, flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			f.forbidden(p.Child("limited"), "must be nil if the type is not Limited")
		}
		if e := s.Exempt; e != nil {
			validateShares(f, p.Child("exempt"), e.NominalConcurrencyShares, e.LendablePercent)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			f.forbidden(p.Child("exempt"), "must be nil if the type is Limited")
		}
		if s.Limited == nil {
			f.required(p.Child("limited"), "must not be empty when type is Limited")
			break
		}
		at := p.Child("limited")
		validateShares(f, at, s.Limited.NominalConcurrencyShares, s.Limited.LendablePercent)
		if b := s.Limited.BorrowingLimitPercent; b != nil && *b < 0 {
			f.invalid(at.Child("borrowingLimitPercent"), *b, "if specified, must be a non-negative integer")
		}
		validateLimitResponse(f, at.Child("limitResponse"), &s.Limited.LimitResponse)
	}
	return f.list
}

func validateShares(f *faults, p *field.Path, shares, lendable *int32) {
	if shares != nil && *shares < 0 {
		f.invalid(p.Child("nominalConcurrencyShares"), *shares, "must be a non-negative integer")
	}
	if lendable != nil && (*lendable < 0 || *lendable > 100) {
		f.invalid(p.Child("lendablePercent"), *lendable, "must be between 0 and 100, inclusive")
	}
}

func validateLimitResponse(f *faults, p *field.Path, r *flowcontrolv1.LimitResponse) {
	oneOf(f, p.Child("type"), r.Type, flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)
	at := p.Child("queuing")
	switch {
	case r.Type == flowcontrolv1.LimitResponseTypeReject && r.Queuing != nil:
		f.forbidden(at, "must be nil if limited.limitResponse.type is not Limited")
	case r.Type == flowcontrolv1.LimitResponseTypeQueue && r.Queuing == nil:
		f.required(at, "must not be empty if limited.limitResponse.type is Limited")
	case r.Type == flowcontrolv1.LimitResponseTypeQueue:
		validateQueues(f, at, r.Queuing)
	}
}

const (
	mostQueues = 10_000_000
	// entropyBits is what one hash of a flow gives to choose its queues with.
	entropyBits = 60
)

func validateQueues(f *faults, p *field.Path, q *flowcontrolv1.QueuingConfiguration) {
	if q.QueueLengthLimit <= 0 {
		f.invalid(p.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive")
	}
	switch {
	case q.Queues <= 0:
		f.invalid(p.Child("queues"), q.Queues, "must be positive")
	case q.Queues > mostQueues:
		f.invalid(p.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", mostQueues))
	}
	at := p.Child("handSize")
	switch n, hand := q.Queues, q.HandSize; {
	case hand <= 0:
		f.invalid(at, hand, "must be positive")
	case hand > n:
		f.invalid(at, hand, fmt.Sprintf("should not be greater than queues (%d)", n))
	default:
		if math.Ceil(math.Log2(float64(n))*float64(hand)) > entropyBits {
			f.invalid(at, hand, fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", n, hand, entropyBits))
		}
	}
}

func validateFlowSchemaStatus(new, _ *flowcontrolv1.FlowSchema) field.ErrorList {
	f, seen := &faults{}, unique{}
	for i, c := range new.Status.Conditions {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		f.need(at, string(c.Type))
		seen.check(f, at, string(c.Type))
	}
	return f.list
}

func validatePriorityLevelStatus(new, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	f, seen := &faults{}, unique{}
	for i, c := range new.Status.Conditions {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		f.need(at, string(c.Type))
		seen.check(f, at, string(c.Type))
	}
	return f.list
}
