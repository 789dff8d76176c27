// SPDX-License-Identifier: Apache-2.0

package kinds

import rbacv1 "k8s.io/api/rbac/v1"

// The four kinds of role-based access control: what is granted in one namespace or everywhere, and to whom.
var (
	Role = Kind[rbacv1.Role]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Name: "Role", Plural: "roles",
		NoGeneration: true,
	}
	ClusterRole = Kind[rbacv1.ClusterRole]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Name: "ClusterRole", Plural: "clusterroles", Cluster: true,
		NoGeneration: true,
	}
	RoleBinding = Kind[rbacv1.RoleBinding]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Name: "RoleBinding", Plural: "rolebindings",
		NoGeneration: true,
	}
	ClusterRoleBinding = Kind[rbacv1.ClusterRoleBinding]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Name: "ClusterRoleBinding", Plural: "clusterrolebindings", Cluster: true,
		NoGeneration: true,
	}
)
