// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/knarr/knarr/kinds"
)

func TestRuleAllows(t *testing.T) {
	r := func(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
		return rule(verbs, groups, resources, names...)
	}
	get := Attributes{Verb: "get", Resource: "pods", Name: "a"}
	exec := Attributes{Verb: "create", Resource: "pods", Subresource: "exec", Name: "a"}
	for _, c := range []struct {
		name string
		rule rbacv1.PolicyRule
		a    Attributes
		want bool
	}{
		{"exact", r("get", "core", "pods"), get, true},
		{"other verb", r("list", "core", "pods"), get, false},
		{"other group", r("get", "apps", "pods"), get, false},
		{"all", everything, get, true},
		{"name", r("get", "core", "pods", "a"), get, true},
		{"other name", r("get", "core", "pods", "b"), get, false},
		{"a list has no name", r("list", "core", "pods", "a"), Attributes{Verb: "list", Resource: "pods"}, false},
		{"a resource is not its subresources", r("create", "core", "pods"), exec, false},
		{"subresource", r("create", "core", "pods/exec"), exec, true},
		{"any resource's subresource", r("create", "core", "*/exec"), exec, true},
		{"a subresource is not its resource", r("get", "core", "pods/exec"), get, false},
		{"path", paths("/api/*"), Attributes{Verb: "get", Path: "/api/v1"}, true},
		{"path is not its prefix", paths("/api"), Attributes{Verb: "get", Path: "/api/v1"}, false},
		{"resources are no paths", everything, Attributes{Verb: "get", Path: "/metrics"}, false},
		{"an empty rule allows nothing", rbacv1.PolicyRule{}, get, false},
	} {
		if got := ruleAllows(&c.rule, c.a); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		name      string
		have, one rbacv1.PolicyRule
		want      bool
	}{
		{"same", rule("get", "core", "pods"), rule("get", "core", "pods"), true},
		{"all verbs are more than one", rule("get", "core", "pods"), rule("*", "core", "pods"), false},
		{"all resources are more than one", rule("get", "core", "pods"), rule("get", "core", "*"), false},
		{"a name is less than all", rule("get", "core", "pods"), rule("get", "core", "pods", "a"), true},
		{"all are more than a name", rule("get", "core", "pods", "a"), rule("get", "core", "pods"), false},
		{"everything", everything, rule("x", "y", "z/w"), true},
		{"a path is less than its tree", paths("/a/*"), paths("/a/b"), true},
		{"a tree is more than a path", paths("/a/"), paths("/a/*"), false},
		{"paths are no resources", everything, paths("/a"), false},
	} {
		if got := covers1(&c.have, &c.one); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestReferencesOfAPod(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
		InitContainers:   []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "from"}}}}}},
		Containers:       []corev1.Container{{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}}}}}},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol"}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "part"}}}}}}},
		},
	}}
	want := map[string]bool{"secrets/pull": true, "secrets/from": true, "configmaps/key": true, "secrets/vol": true, "configmaps/part": true}
	for resource, name := range kinds.References(p) {
		if !want[resource+"/"+name] {
			t.Errorf("unexpected %s/%s", resource, name)
		}
		delete(want, resource+"/"+name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestEveryBindingHasItsRole(t *testing.T) {
	have := map[string]bool{}
	for _, r := range Roles() {
		if have[r.Name] {
			t.Errorf("%s is there twice", r.Name)
		}
		have[r.Name] = true
	}
	for _, b := range Bindings() {
		if !have[b.RoleRef.Name] {
			t.Errorf("%s binds %s, which does not exist", b.Name, b.RoleRef.Name)
		}
	}
}
