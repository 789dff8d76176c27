// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1alpha1 "k8s.io/api/rbac/v1alpha1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
)

// In v1alpha1 a subject had a version instead of a group, and "*" was everybody.
var (
	roleVersions = []Served[rbacv1.Role]{
		Alike[rbacv1.Role, rbacv1beta1.Role](rbacv1.GroupName, "v1beta1", nil, nil),
		Alike[rbacv1.Role, rbacv1alpha1.Role](rbacv1.GroupName, "v1alpha1", nil, nil),
	}
	clusterRoleVersions = []Served[rbacv1.ClusterRole]{
		Alike[rbacv1.ClusterRole, rbacv1beta1.ClusterRole](rbacv1.GroupName, "v1beta1", nil, nil),
		Alike[rbacv1.ClusterRole, rbacv1alpha1.ClusterRole](rbacv1.GroupName, "v1alpha1", nil, nil),
	}
	roleBindingVersions = []Served[rbacv1.RoleBinding]{
		Alike[rbacv1.RoleBinding, rbacv1beta1.RoleBinding](rbacv1.GroupName, "v1beta1", nil, nil),
		Alike(rbacv1.GroupName, "v1alpha1", func(in *rbacv1alpha1.RoleBinding, out *rbacv1.RoleBinding) {
			subjectsToHub(in.Subjects, out.Subjects)
		}, func(in *rbacv1.RoleBinding, out *rbacv1alpha1.RoleBinding) {
			subjectsFromHub(in.Subjects, out.Subjects)
		}),
	}
	clusterRoleBindingVersions = []Served[rbacv1.ClusterRoleBinding]{
		Alike[rbacv1.ClusterRoleBinding, rbacv1beta1.ClusterRoleBinding](rbacv1.GroupName, "v1beta1", nil, nil),
		Alike(rbacv1.GroupName, "v1alpha1", func(in *rbacv1alpha1.ClusterRoleBinding, out *rbacv1.ClusterRoleBinding) {
			subjectsToHub(in.Subjects, out.Subjects)
		}, func(in *rbacv1.ClusterRoleBinding, out *rbacv1alpha1.ClusterRoleBinding) {
			subjectsFromHub(in.Subjects, out.Subjects)
		}),
	}
)

func subjectsToHub(in []rbacv1alpha1.Subject, out []rbacv1.Subject) {
	for i, s := range in {
		group := "" // v1
		if at := strings.LastIndex(s.APIVersion, "/"); at >= 0 {
			group = s.APIVersion[:at]
		}
		switch {
		case s.Kind == rbacv1.UserKind && s.Name == "*":
			out[i].Kind, out[i].Name, group = rbacv1.GroupKind, "system:authenticated", rbacv1.GroupName
		case s.APIVersion == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind):
			group = rbacv1.GroupName
		}
		out[i].APIGroup = group
	}
}

func subjectsFromHub(in []rbacv1.Subject, out []rbacv1alpha1.Subject) {
	for i, s := range in {
		switch s.APIGroup {
		case "":
			out[i].APIVersion = "v1"
		case rbacv1.GroupName:
			out[i].APIVersion = rbacv1.GroupName + "/v1alpha1"
		default:
			out[i].APIVersion = s.APIGroup + "/v1"
		}
	}
}
