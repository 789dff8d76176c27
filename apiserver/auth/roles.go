// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The bootstrap roles and bindings, by Kubernetes' names. They are made again at each start when they are missing, and
// what they lack is added, unless they carry the annotation rbac.authorization.kubernetes.io/autoupdate: "false".

const (
	read  = "get list watch"
	write = "create delete deletecollection patch update"
	all   = "*"
)

var (
	everything = rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}
	everyPath  = rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}
)

// rule is verbs, groups and resources as words separated by blanks; "core" is the empty group.
func rule(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	g := strings.Fields(groups)
	for i := range g {
		if g[i] == "core" {
			g[i] = ""
		}
	}
	return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: g, Resources: strings.Fields(resources), ResourceNames: names}
}

func paths(urls string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: strings.Fields(urls)}
}

func role(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: bootstrapMeta(name), Rules: rules}
}

func bootstrapMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:        name,
		Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
}

const aggregateTo = "rbac.authorization.k8s.io/aggregate-to-"

func label(r *rbacv1.ClusterRole, to string) *rbacv1.ClusterRole {
	r.Labels[aggregateTo+to] = "true"
	return r
}

func aggregate(name, to string) *rbacv1.ClusterRole {
	r := role(name)
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{aggregateTo + to: "true"}},
	}}
	return r
}

const (
	workloads = "daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status controllerrevisions"
	coreView  = "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status namespaces"
)

// Roles are the bootstrap cluster roles.
func Roles() []*rbacv1.ClusterRole {
	roles := []*rbacv1.ClusterRole{
		role("cluster-admin", everything, everyPath),
		role("system:discovery", paths("/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/")),
		role("system:public-info-viewer", paths("/healthz /livez /readyz /version /version/")),
		role("knarr:ca", paths("/knarr/v1/ca")),
		role("knarr:join", rbacv1.PolicyRule{Verbs: []string{"post"}, NonResourceURLs: []string{"/knarr/v1/join"}}),
		role("system:monitoring", paths("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")),
		role("system:service-account-issuer-discovery", paths("/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/")),
		role("system:basic-user",
			rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
			rule("create", "authentication.k8s.io", "selfsubjectreviews")),
		role("system:auth-delegator",
			rule("create", "authentication.k8s.io", "tokenreviews"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews")),
		aggregate("admin", "admin"), label(aggregate("edit", "edit"), "admin"), label(aggregate("view", "view"), "edit"),
	}
	return append(append(append(roles, userRoles()...), componentRoles()...), controllerRoles()...)
}

func userRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		label(role("system:aggregate-to-view",
			rule(read, "core", coreView),
			rule(read, "discovery.k8s.io", "endpointslices"),
			rule(read, "apps extensions", workloads),
			rule(read, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
			rule(read, "batch", "cronjobs cronjobs/status jobs jobs/status"),
			rule(read, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
			rule(read, "networking.k8s.io extensions", "ingresses ingresses/status networkpolicies")), "view"),
		label(role("system:aggregate-to-edit",
			rule(read, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
			rule("impersonate", "core", "serviceaccounts"),
			rule(write, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
			rule("create", "core", "pods/eviction serviceaccounts/token"),
			rule(write, "core", "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy events"),
			rule(write, "apps extensions", "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale"),
			rule(write, "autoscaling", "horizontalpodautoscalers"),
			rule(write, "batch", "cronjobs jobs"),
			rule(write, "policy", "poddisruptionbudgets"),
			rule(write, "networking.k8s.io extensions", "ingresses networkpolicies"),
			rule(write+" "+read, "coordination.k8s.io", "leases")), "edit"),
		label(role("system:aggregate-to-admin",
			rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
			rule(write+" "+read, "rbac.authorization.k8s.io", "roles rolebindings")), "admin"),
	}
}

func componentRoles() []*rbacv1.ClusterRole {
	events := rule("create patch update", "core events.k8s.io", "events")
	leases := rule(read+" create update patch", "coordination.k8s.io", "leases")
	return []*rbacv1.ClusterRole{
		role("system:kube-scheduler", events, leases,
			rule(read, "core", "nodes pods namespaces services replicationcontrollers persistentvolumeclaims persistentvolumes"),
			rule("delete", "core", "pods"),
			rule("create", "core", "bindings pods/binding"),
			rule("patch update", "core", "pods/status"),
			rule(read, "apps", "replicasets statefulsets"),
			rule(read, "policy", "poddisruptionbudgets"),
			rule(read, "storage.k8s.io", "*"),
			rule("create", "authentication.k8s.io", "tokenreviews"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews")),
		role("system:kube-controller-manager", events, leases,
			rule("create", "core", "secrets serviceaccounts serviceaccounts/token"),
			rule("delete get update", "core", "secrets serviceaccounts"),
			rule("get", "core", "namespaces configmaps"),
			rule("create", "authentication.k8s.io", "tokenreviews"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews"),
			rule("list watch", "*", "*")),
		role("system:node"), // the Node authorizer does its work; the role is there because people look for it
		role("system:node-bootstrapper", rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests")),
		role("system:node-proxier", events,
			rule("list watch", "core", "services endpoints"),
			rule("list watch get", "core", "nodes"),
			rule("list watch", "discovery.k8s.io", "endpointslices"),
			rule("list watch", "networking.k8s.io", "servicecidrs")),
		role("system:kube-dns", rule("list watch", "core", "endpoints services pods namespaces nodes"), rule("list watch", "discovery.k8s.io", "endpointslices")),
		role("system:kubelet-api-admin",
			rule(read+" proxy", "core", "nodes"),
			rule(all, "core", "nodes/proxy nodes/metrics nodes/log nodes/stats nodes/healthz nodes/pods nodes/configz")),
	}
}

// controllerRoles are the accounts of single controllers, for those that run with --use-service-account-credentials or
// outside; in one process all of them are system:kube-controller-manager, which therefore has their sum.
func controllerRoles() []*rbacv1.ClusterRole {
	events := rule("create patch update", "core events.k8s.io", "events")
	roles := []*rbacv1.ClusterRole{
		role("system:controller:deployment-controller", events,
			rule(read+" update", "apps", "deployments"), rule("update", "apps", "deployments/status deployments/finalizers"),
			rule(read+" create delete patch update", "apps", "replicasets"), rule(read+" update", "core", "pods")),
		role("system:controller:replicaset-controller", events,
			rule(read+" update", "apps", "replicasets"), rule("update", "apps", "replicasets/status replicasets/finalizers"),
			rule(read+" create delete patch", "core", "pods")),
		role("system:controller:replication-controller", events,
			rule(read+" update", "core", "replicationcontrollers"), rule("update", "core", "replicationcontrollers/status replicationcontrollers/finalizers"),
			rule(read+" create delete patch", "core", "pods")),
		role("system:controller:job-controller", events,
			rule(read+" patch update", "batch", "jobs"), rule("update", "batch", "jobs/status jobs/finalizers"),
			rule(read+" create delete patch update", "core", "pods")),
		role("system:controller:ttl-after-finished-controller", events, rule(read+" delete", "batch", "jobs")),
		role("system:controller:daemon-set-controller", events,
			rule(read, "apps", "daemonsets"), rule("update", "apps", "daemonsets/status daemonsets/finalizers"), rule(read, "core", "nodes"),
			rule(read+" create delete patch update", "core", "pods"), rule("create", "core", "pods/binding"),
			rule(read+" create delete patch update", "apps", "controllerrevisions")),
		role("system:controller:statefulset-controller", events,
			rule(read, "apps", "statefulsets"), rule("update", "apps", "statefulsets/status statefulsets/finalizers"),
			rule("get create delete update patch list watch", "core", "pods"), rule(read+" create delete update patch", "core", "persistentvolumeclaims"),
			rule(read+" create delete patch update", "apps", "controllerrevisions")),
		role("system:controller:cronjob-controller", events,
			rule(read+" create delete patch update", "batch", "jobs"), rule(read+" update", "batch", "cronjobs"),
			rule("update", "batch", "cronjobs/status cronjobs/finalizers"), rule("list delete", "core", "pods")),
		role("system:controller:disruption-controller", events,
			rule(read, "apps", "deployments replicasets statefulsets"), rule(read, "core", "pods replicationcontrollers"), rule(read, "policy", "poddisruptionbudgets"),
			rule("update", "policy", "poddisruptionbudgets/status"), rule("patch update", "core", "pods/status"), rule("get", "*", "*/scale")),
		role("system:controller:endpointslicemirroring-controller", events,
			rule(read, "core", "endpoints services"), rule("update", "core", "services/finalizers endpoints/finalizers"),
			rule(read+" create delete update", "discovery.k8s.io", "endpointslices")),
		role("system:controller:persistent-volume-binder", events,
			rule(read+" create delete update", "core", "persistentvolumes"), rule("update", "core", "persistentvolumes/status persistentvolumeclaims/status"),
			rule(read+" update", "core", "persistentvolumeclaims"), rule(read, "core", "pods"), rule(read, "storage.k8s.io", "storageclasses")),
		role("system:controller:endpoint-controller", events,
			rule(read, "core", "pods services"), rule(read+" create delete update", "core", "endpoints"), rule("create", "core", "endpoints/restricted")),
		role("system:controller:endpointslice-controller", events,
			rule(read, "core", "nodes pods services"), rule("update", "core", "services/finalizers"),
			rule(read+" create delete update", "discovery.k8s.io", "endpointslices")),
		role("system:controller:namespace-controller",
			rule(read+" delete", "core", "namespaces"), rule("update", "core", "namespaces/finalize namespaces/status"),
			rule("delete deletecollection get list", "*", "*")),
		role("system:controller:node-controller", events,
			rule(read+" delete patch update", "core", "nodes"), rule("patch update", "core", "nodes/status pods/status"),
			rule(read+" delete", "core", "pods"), rule(read, "coordination.k8s.io", "leases")),
		role("system:controller:service-account-controller", events,
			rule(read+" create", "core", "serviceaccounts"), rule(read, "core", "namespaces")),
		role("system:controller:root-ca-cert-publisher", events,
			rule(read+" create update", "core", "configmaps"), rule(read, "core", "namespaces")),
		role("system:controller:generic-garbage-collector", events,
			rule("delete get list patch update watch", "*", "*")),
		role("system:controller:certificate-controller", events,
			rule(read+" delete update", "certificates.k8s.io", "certificatesigningrequests"),
			rule("update", "certificates.k8s.io", "certificatesigningrequests/approval certificatesigningrequests/status"),
			rule("approve sign", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet",
				"kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews")),
		role("system:controller:resourcequota-controller", events,
			rule("list watch", "*", "*"), rule("update", "core", "resourcequotas/status")),
		role("system:controller:pod-garbage-collector", rule(read+" delete", "core", "pods"), rule(read, "core", "nodes"), rule("patch", "core", "pods/status")),
	}
	sum := role("system:controller:all", rule("update", "*", "*/finalizers"))
	for _, r := range roles {
		sum.Rules = append(sum.Rules, r.Rules...)
	}
	return append(roles, sum)
}

// Bindings are the bootstrap cluster role bindings.
func Bindings() []*rbacv1.ClusterRoleBinding {
	group := func(name string) rbacv1.Subject {
		return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
	}
	user := func(name string) rbacv1.Subject {
		return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
	}
	account := func(name string) rbacv1.Subject {
		return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}
	}
	list := []*rbacv1.ClusterRoleBinding{
		binding("cluster-admin", "cluster-admin", group(Masters)),
		binding("system:discovery", "system:discovery", group(Authenticated)),
		binding("system:basic-user", "system:basic-user", group(Authenticated)),
		binding("system:public-info-viewer", "system:public-info-viewer", group(Authenticated), group(Unauthenticated)),
		binding("system:monitoring", "system:monitoring", group("system:monitoring")),
		binding("system:service-account-issuer-discovery", "system:service-account-issuer-discovery", group(ServiceAccounts)),
		binding("knarr:ca", "knarr:ca", group(Authenticated), group(Unauthenticated)),
		binding("knarr:join", "knarr:join", group(Bootstrappers), group(Nodes)),
		// A node's proxy and routes are part of its agent, so nodes may read what those need.
		binding("system:node-proxier", "system:node-proxier", user("system:kube-proxy"), group(Nodes)),
		binding("system:kube-scheduler", "system:kube-scheduler", user("system:kube-scheduler")),
		binding("system:kube-controller-manager", "system:kube-controller-manager", user("system:kube-controller-manager")),
		binding("system:controllers", "system:controller:all", user("system:kube-controller-manager")),
		binding("system:kube-dns", "system:kube-dns", user("system:kube-dns"), account("kube-dns")),
		binding("system:node", "system:node"),
		binding("system:node-bootstrapper", "system:node-bootstrapper", group(bootstrapGroup), group(Nodes)),
	}
	for _, r := range controllerRoles() {
		const prefix = "system:controller:"
		if r.Name != prefix+"all" {
			list = append(list, binding(r.Name, r.Name, account(r.Name[len(prefix):])))
		}
	}
	return list
}

func binding(name, to string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: bootstrapMeta(name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: to},
		Subjects:   subjects,
	}
}
