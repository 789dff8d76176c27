// SPDX-License-Identifier: Apache-2.0

package nodeipam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

// node has the part cidr ("": none); a later one is younger.
func node(name, cidr string, age time.Duration) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1000, 0).Add(-age))}}
	if cidr != "" {
		n.Spec.PodCIDR, n.Spec.PodCIDRs = cidr, []string{cidr}
	}
	return n
}

func TestDecide(t *testing.T) {
	for _, x := range []struct {
		rule    string
		cluster string
		nodes   []*corev1.Node
		want    string
	}{
		{"the first", "10.42.0.0/16", []*corev1.Node{node("a", "", 0)}, "a=10.42.0.0/24"},
		{"the next", "10.42.0.0/16", []*corev1.Node{node("a", "10.42.0.0/24", 0), node("b", "", 0)}, "b=10.42.1.0/24"},
		{"a hole is filled", "10.42.0.0/16", []*corev1.Node{node("a", "10.42.0.0/24", 0), node("c", "10.42.2.0/24", 0), node("b", "", 0)}, "b=10.42.1.0/24"},
		{"a larger part in the way", "10.42.0.0/16", []*corev1.Node{node("a", "10.42.0.0/22", 0), node("b", "", 0)}, "b=10.42.4.0/24"},
		{"a smaller part in the way", "10.42.0.0/16", []*corev1.Node{node("a", "10.42.0.128/25", 0), node("b", "", 0)}, "b=10.42.1.0/24"},
		{"the oldest first", "10.42.0.0/16", []*corev1.Node{node("a", "", 0), node("b", "", time.Hour)}, "b=10.42.0.0/24 a=10.42.1.0/24"},
		{"a small cluster", "10.42.0.0/25", []*corev1.Node{node("a", "", 0), node("b", "", 0)}, "a=10.42.0.0/25 b: CIDRNotAvailable"},
		{"all is given", "10.42.0.0/23", []*corev1.Node{node("a", "10.42.0.0/24", 0), node("b", "10.42.1.0/24", 0), node("c", "", 0)}, "c: CIDRNotAvailable"},
		{"a part of another range stays", "10.42.0.0/16", []*corev1.Node{node("a", "10.9.0.0/24", 0)}, ""},
		{"the end of all addresses", "255.255.255.0/24", []*corev1.Node{node("a", "255.255.255.0/24", 0), node("b", "", 0)}, "b: CIDRNotAvailable"},
		{"IPv6", "fd00:42::/48", []*corev1.Node{node("a", "fd00:42::/64", 0), node("b", "", 0)}, "b=fd00:42:0:1::/64"},
	} {
		var got []string
		for _, a := range Decide(State{netip.MustParsePrefix(x.cluster), x.nodes}).Actions {
			switch a := a.(type) {
			case reconcile.Update:
				n := a.Object.(*corev1.Node)
				got = append(got, n.Name+"="+n.Spec.PodCIDR)
			case reconcile.Event:
				got = append(got, a.Regarding.GetName()+": "+a.Reason)
			}
		}
		if s := strings.Join(got, " "); s != x.want {
			t.Errorf("%s: %q, want %q", x.rule, s, x.want)
		}
	}
}

func TestConverges(t *testing.T) {
	w := reconciletest.New(t.Context(), time.Now, node("a", "", 0), node("b", "", 0), node("c", "", 0))
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller(netip.MustParsePrefix("10.42.0.0/16")))
	var got []string
	for n := range cache.List[corev1.Node](w.Cache.Snapshot(), "") {
		got = append(got, n.Spec.PodCIDR)
	}
	slices.Sort(got)
	if want := []string{"10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
