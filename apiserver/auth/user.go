// SPDX-License-Identifier: Apache-2.0

package auth

// User is who a request comes from, as Kubernetes names users and groups.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Names and groups that have a meaning of their own.
const (
	Anonymous       = "system:anonymous"
	Masters         = "system:masters" // may do everything
	Authenticated   = "system:authenticated"
	Unauthenticated = "system:unauthenticated"
	Nodes           = "system:nodes"
	ServiceAccounts = "system:serviceaccounts"
	KubeletClient   = "kube-apiserver-kubelet-client" // the API server, as kubelets know it
)

// Admin is the cluster's administrator, whose credentials the kubeconfig holds.
func Admin() User { return User{Name: "system:admin", Groups: []string{Masters, Authenticated}} }

// Component is a part of the control plane: "kube-scheduler", "kube-controller-manager", "apiserver".
func Component(name string) User {
	return User{Name: "system:" + name, Groups: []string{Authenticated}}
}

// Node is the kubelet of the named node.
func Node(name string) User {
	return User{Name: "system:node:" + name, Groups: []string{Nodes, Authenticated}}
}

// ServiceAccount is the account name of a namespace.
func ServiceAccount(namespace, name string) User {
	return User{
		Name:   "system:serviceaccount:" + namespace + ":" + name,
		Groups: []string{ServiceAccounts, ServiceAccounts + ":" + namespace, Authenticated},
	}
}

// In reports whether the user is a member of group.
func (u User) In(group string) bool {
	for _, g := range u.Groups {
		if g == group {
			return true
		}
	}
	return false
}

// NodeName is the node whose kubelet u is.
func NodeName(u User) (string, bool) {
	const prefix = "system:node:"
	if !u.In(Nodes) || len(u.Name) <= len(prefix) || u.Name[:len(prefix)] != prefix {
		return "", false
	}
	return u.Name[len(prefix):], true
}
