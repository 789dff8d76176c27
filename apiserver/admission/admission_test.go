// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

// world is a Lookup of the objects it was made with; broken, it fails.
type world struct {
	*reconciletest.World
	broken error
}

func newWorld(t *testing.T, objects ...kinds.Object) *world {
	return &world{World: reconciletest.New(t.Context(), time.Now, objects...)}
}

func (w *world) Find(_ context.Context, t *kinds.Type, namespace, name string) (*cache.Entry, bool, error) {
	if w.broken != nil {
		return nil, false, w.broken
	}
	e, ok := w.Cache.Snapshot().Get(t, namespace, name)
	return e, ok, nil
}

func (w *world) Await(ctx context.Context, t *kinds.Type, namespace, name string) (*cache.Entry, bool, error) {
	return w.Find(ctx, t, namespace, name)
}

// request is a write of obj (of old, when it deletes) by u.
func (w *world) request(u auth.User, v Verb, obj, old kinds.Object) *Request {
	r := &Request{User: u, Verb: v, Object: obj, Old: old, Lookup: w, Warn: func(string) {}}
	if obj == nil {
		obj = old
	}
	r.Type, r.Namespace, r.Name = kinds.Of(obj), obj.GetNamespace(), obj.GetName()
	return r
}

// judge runs one step as the chain does.
func judge(t *testing.T, s Step, r *Request) error {
	t.Helper()
	c := Chain{s}
	if err := c.Mutate(t.Context(), r); err != nil {
		return err
	}
	return c.Validate(t.Context(), r)
}

// says checks a step's word: "" admits, else the refusal must contain it.
func says(t *testing.T, rule string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v, want %q", rule, err, want)
	}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func configMap(namespace, name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func pod(edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "c"}},
	}}
	for _, e := range edit {
		e(p)
	}
	return p
}

func TestTheFirstRefusalEndsTheWrite(t *testing.T) {
	var ran []string
	step := func(name string, err error) Step {
		f := func(context.Context, *Request) error { ran = append(ran, name); return err }
		return Step{Name: name, Mutate: f, Validate: f}
	}
	c := Chain{step("a", nil), {Name: "nothing"}, step("b", errors.New("no")), step("c", nil)}
	for _, half := range []func(context.Context, *Request) error{c.Mutate, c.Validate} {
		ran = nil
		if err := half(t.Context(), &Request{}); err == nil || strings.Join(ran, " ") != "a b" {
			t.Errorf("ran %v, %v", ran, err)
		}
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	ending := namespace("ending")
	now := metav1.NewTime(time.Unix(1, 0))
	ending.DeletionTimestamp = &now
	w := newWorld(t, namespace("a"), ending)
	for _, x := range []struct {
		rule     string
		r        *Request
		want     string
		required int
	}{
		{"into a living one, on the condition that it lives on", w.request(auth.Admin(), Create, configMap("a", "m"), nil), "", 1},
		{"into none", w.request(auth.Admin(), Create, configMap("none", "m"), nil), `namespaces "none" not found`, 0},
		{"into an ending one", w.request(auth.Admin(), Create, configMap("ending", "m"), nil), "because it is being terminated", 0},
		{"an update in an ending one", w.request(auth.Admin(), Update, configMap("ending", "m"), configMap("ending", "m")), "", 0},
		{"a deletion in an ending one", w.request(auth.Admin(), Delete, nil, configMap("ending", "m")), "", 0},
		{"a new namespace", w.request(auth.Admin(), Create, namespace("new"), nil), "", 0},
		{"the end of a namespace", w.request(auth.Admin(), Delete, nil, namespace("a")), "", 0},
		{"the end of one that every cluster needs", w.request(auth.Admin(), Delete, nil, namespace("kube-system")), "may not be deleted", 0},
	} {
		says(t, x.rule, judge(t, namespaceLifecycle(nil), x.r), x.want)
		if n := len(x.r.Required()); n != x.required {
			t.Errorf("%s: the write depends on %d objects, want %d", x.rule, n, x.required)
		}
	}
	err := judge(t, namespaceLifecycle(nil), w.request(auth.Admin(), Create, configMap("ending", "m"), nil))
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("clients cannot see why: %#v", err)
	}
	w.broken = errors.New("the store is away")
	says(t, "a store that does not answer admits nothing", judge(t, namespaceLifecycle(nil), w.request(auth.Admin(), Create, configMap("a", "m"), nil)), "away")
}

func TestServiceAccount(t *testing.T) {
	no := false
	account := func(name string, edit func(*corev1.ServiceAccount)) *corev1.ServiceAccount {
		a := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "registry"}}}
		if edit != nil {
			edit(a)
		}
		return a
	}
	w := newWorld(t, account("default", nil), account("quiet", func(a *corev1.ServiceAccount) { a.AutomountServiceAccountToken = &no }))
	mounted := func(p *corev1.Pod) (n int) {
		for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
			for _, m := range c.VolumeMounts {
				if m.MountPath == tokenPath && strings.HasPrefix(m.Name, tokenVolumePrefix) {
					n++
				}
			}
		}
		return n
	}
	for _, x := range []struct {
		rule            string
		pod             *corev1.Pod
		account, pulls  string
		mounts, volumes int
	}{
		{"the default one", pod(), "default", "registry", 2, 1},
		{"an account that mounts nothing", pod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "quiet" }), "quiet", "registry", 0, 0},
		{"a pod that mounts nothing", pod(func(p *corev1.Pod) { p.Spec.AutomountServiceAccountToken = &no }), "default", "registry", 0, 0},
		{"the pod's own pull secrets", pod(func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "mine"}} }), "default", "mine", 2, 1},
		{"a container that has something there", pod(func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "mine", MountPath: tokenPath}}
		}), "default", "registry", 1, 1},
	} {
		if err := judge(t, serviceAccount(), w.request(auth.Admin(), Create, x.pod, nil)); err != nil {
			t.Errorf("%s: %v", x.rule, err)
			continue
		}
		s := x.pod.Spec
		if s.ServiceAccountName != x.account || s.DeprecatedServiceAccount != x.account || len(s.ImagePullSecrets) != 1 || s.ImagePullSecrets[0].Name != x.pulls {
			t.Errorf("%s: account %q (%q), pull secrets %v", x.rule, s.ServiceAccountName, s.DeprecatedServiceAccount, s.ImagePullSecrets)
		}
		if mounted(x.pod) != x.mounts || len(s.Volumes) != x.volumes {
			t.Errorf("%s: %d mounts, %d volumes; want %d, %d", x.rule, mounted(x.pod), len(s.Volumes), x.mounts, x.volumes)
		}
	}
	mirror := func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }
	for _, x := range []struct {
		rule string
		pod  *corev1.Pod
		want string
	}{
		{"no such account", pod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "none" }), `serviceaccount "none" not found`},
		{"a mirror pod", pod(mirror), ""},
		{"a mirror pod with an account", pod(mirror, func(p *corev1.Pod) { p.Spec.ServiceAccountName = "default" }), "may not reference service accounts"},
		{"a mirror pod with a secret", pod(mirror, func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}}}
		}), "may not reference secrets"},
		{"a mirror pod with a token", pod(mirror, func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{tokenVolume("x")} }), "ServiceAccountToken"},
	} {
		says(t, x.rule, judge(t, serviceAccount(), w.request(auth.Admin(), Create, x.pod, nil)), x.want)
	}
	old := pod()
	p := pod()
	if err := judge(t, serviceAccount(), w.request(auth.Admin(), Update, p, old)); err != nil || p.Spec.ServiceAccountName != "" {
		t.Errorf("an update is left alone: %q, %v", p.Spec.ServiceAccountName, err)
	}
}

func TestDefaultTolerationSeconds(t *testing.T) {
	w := newWorld(t)
	for _, x := range []struct {
		rule string
		have []corev1.Toleration
		want string
	}{
		{"none", nil, "node.kubernetes.io/not-ready node.kubernetes.io/unreachable"},
		{"one of them", []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists}}, "node.kubernetes.io/unreachable"},
		{"all", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, ""},
		{"another effect is none", []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, "node.kubernetes.io/not-ready node.kubernetes.io/unreachable"},
	} {
		p := pod(func(p *corev1.Pod) { p.Spec.Tolerations = x.have })
		says(t, x.rule, judge(t, defaultTolerationSeconds(), w.request(auth.Admin(), Create, p, nil)), "")
		var added []string
		for _, tol := range p.Spec.Tolerations[len(x.have):] {
			added = append(added, tol.Key)
			if tol.TolerationSeconds == nil || *tol.TolerationSeconds != 300 || tol.Effect != corev1.TaintEffectNoExecute {
				t.Errorf("%s: %+v", x.rule, tol)
			}
		}
		if got := strings.Join(added, " "); got != x.want {
			t.Errorf("%s: added %q, want %q", x.rule, got, x.want)
		}
	}
}

func TestNodeRestriction(t *testing.T) {
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	mirror := func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }
	labelled := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "x"} }
	node := func(name string, edit ...func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, e := range edit {
			e(n)
		}
		return n
	}
	label := func(key string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Labels = map[string]string{key: "x"} }
	}
	tainted := func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectNoExecute}} }
	w := newWorld(t, pod(on("other")))
	n := auth.Node("n")
	for _, x := range []struct {
		rule, sub string
		r         *Request
		want      string
	}{
		{"somebody else is not judged", "", w.request(auth.Admin(), Update, node("n", tainted), node("n")), ""},
		{"status of its pod", "status", w.request(n, Update, pod(on("n")), pod(on("n"))), ""},
		{"status of another's pod", "status", w.request(n, Update, pod(on("other")), pod(on("other"))), "set to itself"},
		{"status that claims another's pod", "status", w.request(n, Update, pod(on("n")), pod(on("other"))), "set to itself"},
		{"labels by way of status", "status", w.request(n, Update, pod(on("n"), labelled), pod(on("n"))), "cannot update labels"},
		{"the spec of its pod", "", w.request(n, Update, pod(on("n")), pod(on("n"))), "may not update pods"},
		{"its pod's end", "", w.request(n, Delete, nil, pod(on("n"))), ""},
		{"another pod's end", "", w.request(n, Delete, nil, pod(on("other"))), "set to itself"},
		{"a subresource that is not its own", "binding", w.request(n, Create, pod(), nil), "unexpected pod subresource"},
		{"a mirror pod", "", w.request(n, Create, pod(mirror, on("n")), nil), ""},
		{"a mirror pod elsewhere", "", w.request(n, Create, pod(mirror, on("other")), nil), "set to itself"},
		{"any other pod", "", w.request(n, Create, pod(on("n")), nil), "can only create mirror pods"},
		{"a mirror pod with a secret", "", w.request(n, Create, pod(mirror, on("n"), func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}}}
		}), nil), "reference API objects"},
		{"a mirror pod that somebody else owns", "", w.request(n, Create, pod(mirror, on("n"), func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "rs"}}
		}), nil), "owner reference set to itself"},
		{"itself, with taints", "", w.request(n, Create, node("n", tainted), nil), ""},
		{"its taints later", "", w.request(n, Update, node("n"), node("n", tainted)), "modify taints"},
		{"another node", "", w.request(n, Update, node("other"), node("other")), "not allowed to modify node"},
		{"its own end", "", w.request(n, Delete, nil, node("n")), "not allowed to delete itself"},
		{"a label of its own", "", w.request(n, Update, node("n", label("example.com/x")), node("n")), ""},
		{"a label that kubelets know", "", w.request(n, Update, node("n", label(corev1.LabelHostname)), node("n")), ""},
		{"a label that schedules secrets to it", "", w.request(n, Update, node("n", label("node-restriction.kubernetes.io/x")), node("n")), "not allowed to modify labels"},
		{"taking such a label away", "", w.request(n, Update, node("n"), node("n", label("node-role.kubernetes.io/x"))), "not allowed to modify labels"},
	} {
		x.r.Subresource = x.sub
		says(t, x.rule, judge(t, nodeRestriction(), x.r), x.want)
	}
	nobody := w.request(n, Create, pod(), nil)
	nobody.Subresource, nobody.Old = "eviction", nil
	says(t, "evicting another's pod, which has to be looked up", judge(t, nodeRestriction(), nobody), "set to itself")
}

func TestNoEscalation(t *testing.T) {
	rule := func(verb, resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{"", "rbac.authorization.k8s.io"}, Resources: []string{resource}}
	}
	cluster := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	}
	bind := func(user, role string) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: user + "-" + role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
		}
	}
	w := newWorld(t, cluster("reader", rule("get", "pods")), cluster("writer", rule("delete", "pods")),
		cluster("escalator", rule("escalate", "clusterroles")), cluster("binder", rule("bind", "clusterroles")),
		bind("ann", "reader"), bind("eve", "escalator"), bind("bob", "binder"))
	step := noEscalation(&auth.Authorizer{State: w.Cache})
	ann, eve, bob := auth.User{Name: "ann"}, auth.User{Name: "eve"}, auth.User{Name: "bob"}
	const refused = "attempting to grant RBAC permissions not currently held"
	aggregate := cluster("all")
	aggregate.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}
	for _, x := range []struct {
		rule string
		r    *Request
		want string
	}{
		{"what she has", w.request(ann, Create, cluster("new", rule("get", "pods")), nil), ""},
		{"more than she has", w.request(ann, Create, cluster("new", rule("delete", "pods")), nil), refused},
		{"part of it is more", w.request(ann, Create, cluster("new", rule("get", "pods"), rule("get", "secrets")), nil), refused},
		{"more, later", w.request(ann, Update, cluster("new", rule("*", "*")), cluster("new", rule("get", "pods"))), refused},
		{"more, unchanged", w.request(ann, Update, cluster("new", rule("*", "*")), cluster("new", rule("*", "*"))), ""},
		{"an end gives nothing away", w.request(ann, Delete, nil, cluster("new", rule("*", "*"))), ""},
		{"whatever labels will select", w.request(ann, Create, aggregate, nil), refused},
		{"the verb escalate", w.request(eve, Create, cluster("new", rule("*", "*")), nil), ""},
		{"escalate is not bind", w.request(eve, Create, bind("eve", "writer"), nil), refused},
		{"binding what she has", w.request(ann, Create, bind("x", "reader"), nil), ""},
		{"binding what she has not", w.request(ann, Create, bind("ann", "writer"), nil), refused},
		{"the verb bind", w.request(bob, Create, bind("bob", "writer"), nil), ""},
		{"the administrator", w.request(auth.Admin(), Create, cluster("new", rule("*", "*")), nil), ""},
	} {
		says(t, x.rule, judge(t, step, x.r), x.want)
	}
}
