// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
)

const zoneLabel = corev1.LabelTopologyZone

func labelled(k, v string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { metav1.SetMetaDataLabel(&p.ObjectMeta, k, v) }
}

func in(ns string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Namespace = ns } }

func app(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func affinity(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}, PodAntiAffinity: &corev1.PodAntiAffinity{}}
	}
	return p.Spec.Affinity
}

func near(key, name string, edit ...func(*corev1.PodAffinityTerm)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		t := corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: app(name)}
		for _, e := range edit {
			e(&t)
		}
		a := affinity(p).PodAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, t)
	}
}

func far(key, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinity(p).PodAntiAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution,
			corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: app(name)})
	}
}

func ratherNear(key, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		affinity(p).PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{
			Weight: 10, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: app(name)}}}
	}
}

func ratherFar(key, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		affinity(p).PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{
			Weight: 10, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: app(name)}}}
	}
}

func evenly(key string, skew int32, when corev1.UnsatisfiableConstraintAction, edit ...func(*corev1.TopologySpreadConstraint)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.TopologySpreadConstraint{MaxSkew: skew, TopologyKey: key, WhenUnsatisfiable: when, LabelSelector: app("x")}
		for _, e := range edit {
			e(&c)
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

func TestNeighbours(t *testing.T) {
	space := func(name, team string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": team}}}
	}
	ofTeam := func(team string) func(*corev1.PodAffinityTerm) {
		return func(t *corev1.PodAffinityTerm) {
			t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": team}}
		}
	}
	unlabelled := func(n *corev1.Node) { n.Labels = nil }
	const (
		needs  = "node(s) didn't match pod affinity rules."
		flees  = "node(s) didn't match pod anti-affinity rules."
		fled   = "node(s) didn't satisfy existing pods anti-affinity rules."
		uneven = "node(s) didn't match pod topology spread constraints."
		two    = "0/2 nodes are available: "
	)
	host, x := corev1.LabelHostname, labelled("app", "x")
	z1, z2 := label(zoneLabel, "z1"), label(zoneLabel, "z2")
	hard, soft := corev1.DoNotSchedule, corev1.ScheduleAnyway
	for _, c := range []struct {
		rule    string
		objects []kinds.Object
		pod     *corev1.Pod
		want    string
	}{
		{"near a pod, on its node", []kinds.Object{node("a"), node("b"), pod("o", on("b"), x, asks("cpu", "1"))}, pod("p", near(host, "x")), "b"},
		{"near a pod, in its zone", []kinds.Object{node("a", z1), node("b", z2), node("c", z2), pod("o", on("b"), x, asks("cpu", "2"))},
			pod("p", near(zoneLabel, "x"), asks("cpu", "1")), "c"},
		{"near nobody", []kinds.Object{node("a"), node("b")}, pod("p", near(host, "x")), two + "2 " + needs},
		{"the first of its kind", []kinds.Object{node("a")}, pod("p", near(host, "x"), x), "a"},
		{"the first, but not without the label", []kinds.Object{node("a", unlabelled), node("b", unlabelled)}, pod("p", near(host, "x"), x), two + "2 " + needs},
		{"the second goes to the first", []kinds.Object{node("a"), node("b"), pod("o", on("b"), x, asks("cpu", "1"))}, pod("p", near(host, "x"), x), "b"},
		{"another namespace's pods are not meant", []kinds.Object{node("a"), node("b"), pod("o", on("b"), x, in("other"))}, pod("p", near(host, "x")), two + "2 " + needs},
		{"unless it is named", []kinds.Object{node("a"), node("b"), pod("o", on("b"), x, in("other"))},
			pod("p", near(host, "x", func(t *corev1.PodAffinityTerm) { t.Namespaces = []string{"other"} })), "b"},
		{"or selected", []kinds.Object{space("other", "blue"), node("a"), node("b"), pod("o", on("b"), x, in("other"))}, pod("p", near(host, "x", ofTeam("blue"))), "b"},
		{"and only if selected", []kinds.Object{space("other", "red"), node("a"), node("b"), pod("o", on("b"), x, in("other"))}, pod("p", near(host, "x", ofTeam("blue"))), two + "2 " + needs},
		{"of its own version only", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x, labelled("hash", "1")), pod("q", on("b"), x, labelled("hash", "2"), asks("cpu", "1"))},
			pod("p", near(host, "x", func(t *corev1.PodAffinityTerm) { t.MatchLabelKeys = []string{"hash"} }), labelled("hash", "2")), "b"},

		{"far from a pod", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x), pod("q", on("b"), asks("cpu", "1"))}, pod("p", far(host, "x")), "b"},
		{"far from its like, everywhere one", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x), pod("q", on("b"), x)}, pod("p", far(host, "x"), x), two + "2 " + flees},
		{"far from a zone", []kinds.Object{node("a", z1), node("b", z1), pod("o", on("a"), x)}, pod("p", far(zoneLabel, "x")), two + "2 " + flees},
		{"who is there wants it far", []kinds.Object{node("a"), node("b"), pod("o", on("a"), far(host, "x")), pod("q", on("b"), far(host, "x"))}, pod("p", x), two + "2 " + fled},
		{"who is there wants others far", []kinds.Object{node("a"), pod("o", on("a"), far(host, "y"))}, pod("p", x), "a"},

		{"rather near", []kinds.Object{node("a"), node("b"), pod("o", on("b"), x, asks("cpu", "1"))}, pod("p", ratherNear(host, "x")), "b"},
		{"rather far, though it is fuller there", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x), pod("q", on("b"), asks("cpu", "1"))}, pod("p", ratherFar(host, "x")), "b"},
		{"who is there would rather not", []kinds.Object{node("a"), node("b"), pod("o", on("a"), ratherFar(host, "x")), pod("q", on("b"), asks("cpu", "1"))}, pod("p", x), "b"},

		{"even over nodes", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x), pod("q", on("b"), asks("cpu", "1"))}, pod("p", x, evenly(host, 1, hard)), "b"},
		{"no room where it would be even", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x), pod("q", on("b"), asks("cpu", "2"))},
			pod("p", x, evenly(host, 1, hard), asks("cpu", "1")), two + "1 Insufficient cpu, 1 " + uneven},
		{"a skew of two is allowed", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x), pod("q", on("b"), asks("cpu", "2"))},
			pod("p", x, evenly(host, 2, hard), asks("cpu", "1")), "a"},
		{"nodes it does not want do not count", []kinds.Object{node("a", label("disk", "ssd")), node("b"), pod("o", on("a"), x)},
			pod("p", x, evenly(host, 1, hard), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), "a"},
		{"tainted nodes count", []kinds.Object{node("a"), node("b", taint("k", "v", corev1.TaintEffectNoSchedule)), pod("o", on("a"), x)},
			pod("p", x, evenly(host, 1, hard)), two + "1 node(s) didn't match pod topology spread constraints, 1 node(s) had untolerated taint {k: v}."},
		{"unless it says otherwise", []kinds.Object{node("a"), node("b", taint("k", "v", corev1.TaintEffectNoSchedule)), pod("o", on("a"), x)},
			pod("p", x, evenly(host, 1, hard, func(c *corev1.TopologySpreadConstraint) {
				h := corev1.NodeInclusionPolicyHonor
				c.NodeTaintsPolicy = &h
			})), "a"},
		{"too few domains: the missing one is empty", []kinds.Object{node("a", z1), node("b", z1), pod("o", on("a"), x)},
			pod("p", x, evenly(zoneLabel, 1, hard, func(c *corev1.TopologySpreadConstraint) { two := int32(2); c.MinDomains = &two })), two + "2 " + uneven},
		{"a node without the label", []kinds.Object{node("a"), node("b")}, pod("p", x, evenly(zoneLabel, 1, hard)),
			two + "2 node(s) didn't match pod topology spread constraints (missing required label)."},
		{"ending pods do not count", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }),
			pod("q", on("b"), asks("cpu", "2"))}, pod("p", x, evenly(host, 1, hard), asks("cpu", "1")), "a"},
		{"rather even, though it is fuller there", []kinds.Object{node("a"), node("b"), pod("o", on("a"), x), pod("q", on("b"), asks("cpu", "1"))}, pod("p", x, evenly(host, 1, soft)), "b"},
		{"rather even, but it has to go somewhere", []kinds.Object{node("a"), pod("o", on("a"), x)}, pod("p", x, evenly(zoneLabel, 1, soft)), "a"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			v := view(t, c.objects...)
			got, reasons := Place(v, c.pod)
			if got == "" {
				got = Summary(v.Len(), reasons)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAPodThatNeedsAnotherIsPlacedOnceThatIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, node("a"), node("b"))
		w.Put(pod("p", near(corev1.LabelHostname, "x")))
		synctest.Wait()
		if n := nodeOf(w, "p"); n != "" {
			t.Fatalf("on %q", n)
		}
		time.Sleep(time.Minute) // its pause is long over
		w.Put(pod("o", labelled("app", "x")))
		synctest.Wait()
		if n := nodeOf(w, "p"); n == "" || n != nodeOf(w, "o") {
			t.Errorf("on %q, the other on %q", n, nodeOf(w, "o"))
		}
	})
}
