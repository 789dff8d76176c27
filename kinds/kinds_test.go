// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestEveryKindIsFoundByEachOfItsNames(t *testing.T) {
	for _, k := range append(append([]*Type{}, All...), Virtual...) {
		for _, v := range k.Served {
			if got, gv := FindResource(v.GroupVersion().WithResource(k.Plural)); got != k || gv.GroupVersionKind != v.GroupVersionKind {
				t.Errorf("FindResource(%s) = %v", k.Plural, got)
			}
			if !k.Virtual {
				v.NewList()
			}
			if got, err := Scheme().New(v.GroupVersionKind); err != nil || got == nil {
				t.Errorf("%s is not in the scheme: %v", v.GroupVersionKind, err)
			}
		}
		for _, w := range append([]string{k.Plural, k.Singular, k.Kind}, k.Short...) {
			if got := FindName(w); got != k {
				t.Errorf("FindName(%s) = %v, want %s", w, got, k.Kind)
			}
		}
		if Of(k.New()) != k {
			t.Errorf("Of(new %s) is another kind", k.Kind)
		}
		k.SpecEqual(k.New(), k.New())
		k.CopyStatus(k.New(), k.New())
	}
}

func TestKeysAreLaidOutAsKubernetesDoes(t *testing.T) {
	for _, c := range []struct{ word, ns, name, want string }{
		{"pod", "default", "web", "/registry/pods/default/web"},
		{"no", "", "a", "/registry/minions/a"},
		{"svc", "default", "web", "/registry/services/specs/default/web"},
		{"ep", "default", "web", "/registry/services/endpoints/default/web"},
		{"ns", "", "default", "/registry/namespaces/default"},
		{"ev", "default", "web.1", "/registry/events/default/web.1"},
		{"deploy", "d", "w", "/registry/deployments/d/w"},
		{"endpointslices.discovery.k8s.io", "d", "w", "/registry/endpointslices/d/w"},
		{"clusterroles", "", "admin", "/registry/clusterroles/admin"},
	} {
		if got := FindName(c.word).Key(c.ns, c.name); got != c.want {
			t.Errorf("key of %s %s/%s = %s, want %s", c.word, c.ns, c.name, got, c.want)
		}
	}
	if For[corev1.Pod]().Kind != "Pod" {
		t.Error("For[Pod] is not Pod")
	}
}
