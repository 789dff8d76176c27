// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The four kinds of role-based access control: what is granted in one namespace or everywhere, and to whom. Names may hold
// colons (system:node), so any path segment will do.
var (
	Role = Kind[rbacv1.Role]{
		Group: rbacv1.GroupName, Version: "v1", Name: "Role", Plural: "roles",
		Served:       roleVersions,
		NoGeneration: true,
		ValidateName: pathSegment,
		Validate: func(r *rbacv1.Role) field.ErrorList {
			f := &faults{}
			validateRules(f, r.Rules, true)
			return f.list
		},
		Columns: []Column[rbacv1.Role]{nameColumn[rbacv1.Role](), createdColumn[rbacv1.Role]()},
	}
	ClusterRole = Kind[rbacv1.ClusterRole]{
		Group: rbacv1.GroupName, Version: "v1", Name: "ClusterRole", Plural: "clusterroles", Cluster: true,
		Served:       clusterRoleVersions,
		NoGeneration: true,
		ValidateName: pathSegment,
		Validate: func(r *rbacv1.ClusterRole) field.ErrorList {
			f := &faults{}
			validateRules(f, r.Rules, false)
			validateAggregation(f, r.AggregationRule)
			return f.list
		},
		Columns: []Column[rbacv1.ClusterRole]{nameColumn[rbacv1.ClusterRole](), createdColumn[rbacv1.ClusterRole]()},
	}
	RoleBinding = Kind[rbacv1.RoleBinding]{
		Group: rbacv1.GroupName, Version: "v1", Name: "RoleBinding", Plural: "rolebindings",
		Served:       roleBindingVersions,
		NoGeneration: true,
		ValidateName: pathSegment,
		Default:      func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate: func(b *rbacv1.RoleBinding) field.ErrorList {
			return validateBinding(b.RoleRef, b.Subjects, true)
		},
		ValidateUpdate: func(new, old *rbacv1.RoleBinding) field.ErrorList { return sameRole(new.RoleRef, old.RoleRef) },
		Columns: bindingColumns(func(b *rbacv1.RoleBinding) (rbacv1.RoleRef, []rbacv1.Subject) {
			return b.RoleRef, b.Subjects
		}),
	}
	ClusterRoleBinding = Kind[rbacv1.ClusterRoleBinding]{
		Group: rbacv1.GroupName, Version: "v1", Name: "ClusterRoleBinding", Plural: "clusterrolebindings", Cluster: true,
		Served:       clusterRoleBindingVersions,
		NoGeneration: true,
		ValidateName: pathSegment,
		Default:      func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate: func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
			return validateBinding(b.RoleRef, b.Subjects, false)
		},
		ValidateUpdate: func(new, old *rbacv1.ClusterRoleBinding) field.ErrorList { return sameRole(new.RoleRef, old.RoleRef) },
		Columns: bindingColumns(func(b *rbacv1.ClusterRoleBinding) (rbacv1.RoleRef, []rbacv1.Subject) {
			return b.RoleRef, b.Subjects
		}),
	}
)

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	or(&ref.APIGroup, rbacv1.GroupName)
	for i := range subjects {
		if k := subjects[i].Kind; k == rbacv1.UserKind || k == rbacv1.GroupKind {
			or(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}

func validateRules(f *faults, rules []rbacv1.PolicyRule, namespaced bool) {
	for i, r := range rules {
		at := field.NewPath("rules").Index(i)
		if len(r.Verbs) == 0 {
			f.required(at.Child("verbs"), "verbs must contain at least one value")
		}
		if len(r.NonResourceURLs) > 0 {
			switch {
			case namespaced:
				f.invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs")
			case len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) > 0:
				f.invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs")
			}
			continue
		}
		if len(r.APIGroups) == 0 {
			f.required(at.Child("apiGroups"), "resource rules must supply at least one api group")
		}
		if len(r.Resources) == 0 {
			f.required(at.Child("resources"), "resource rules must supply at least one resource")
		}
	}
}

func validateAggregation(f *faults, a *rbacv1.AggregationRule) {
	if a == nil {
		return
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(a.ClusterRoleSelectors) == 0 {
		f.required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil")
	}
	for i := range a.ClusterRoleSelectors {
		validateSelector(f, at.Index(i), &a.ClusterRoleSelectors[i])
	}
}

func validateBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool) field.ErrorList {
	f := &faults{}
	at := field.NewPath("roleRef")
	supported(f, at.Child("apiGroup"), ref.APIGroup, rbacv1.GroupName)
	if namespaced {
		supported(f, at.Child("kind"), ref.Kind, "ClusterRole", "Role")
	} else {
		supported(f, at.Child("kind"), ref.Kind, "ClusterRole")
	}
	if f.need(at.Child("name"), ref.Name) {
		f.each(at.Child("name"), ref.Name, pathSegment(ref.Name, false))
	}
	for i, s := range subjects {
		validateSubject(f, field.NewPath("subjects").Index(i), s, namespaced)
	}
	return f.list
}

func validateSubject(f *faults, p *field.Path, s rbacv1.Subject, namespaced bool) {
	f.need(p.Child("name"), s.Name)
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			f.each(p.Child("name"), s.Name, validation.IsDNS1123Subdomain(s.Name))
		}
		supported(f, p.Child("apiGroup"), s.APIGroup, "")
		if !namespaced {
			f.need(p.Child("namespace"), s.Namespace)
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		supported(f, p.Child("apiGroup"), s.APIGroup, rbacv1.GroupName)
	default:
		f.add(field.NotSupported(p.Child("kind"), s.Kind, []string{rbacv1.GroupKind, rbacv1.ServiceAccountKind, rbacv1.UserKind}))
	}
}

// sameRole: a binding grants one role for its life, or else who may edit its subjects could hand out any role.
func sameRole(new, old rbacv1.RoleRef) field.ErrorList {
	if new != old {
		return field.ErrorList{field.Invalid(field.NewPath("roleRef"), new, "cannot change roleRef")}
	}
	return nil
}

func createdColumn[T any]() Column[T] {
	return Column[T]{
		Name: "Created At", Type: "date", Description: "When it was created.",
		Cell: func(o *T, _ time.Time) any {
			t := meta(o).GetCreationTimestamp()
			return t.UTC().Format(time.RFC3339)
		},
	}
}

func bindingColumns[T any](of func(*T) (rbacv1.RoleRef, []rbacv1.Subject)) []Column[T] {
	names := func(o *T, kind string) string {
		_, subjects := of(o)
		list := []string{}
		for _, s := range subjects {
			switch {
			case s.Kind != kind:
			case kind == rbacv1.ServiceAccountKind:
				list = append(list, s.Namespace+"/"+s.Name)
			default:
				list = append(list, s.Name)
			}
		}
		return strings.Join(list, ", ")
	}
	return []Column[T]{
		nameColumn[T](),
		text("Role", "What it grants.", 0, func(o *T) string { r, _ := of(o); return r.Kind + "/" + r.Name }),
		ageColumn[T](),
		text("Users", "To which users.", wide, func(o *T) string { return names(o, rbacv1.UserKind) }),
		text("Groups", "To which groups.", wide, func(o *T) string { return names(o, rbacv1.GroupKind) }),
		text("ServiceAccounts", "To which service accounts.", wide, func(o *T) string { return names(o, rbacv1.ServiceAccountKind) }),
	}
}
