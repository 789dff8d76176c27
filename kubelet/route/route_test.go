// SPDX-License-Identifier: Apache-2.0

package route

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/netnstest"
)

var cluster = netip.MustParsePrefix("10.42.0.0/16")

func node(name, cidr string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: []string{cidr}}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func TestMain(m *testing.M) { netnstest.Main(m) }

func via(to, by string) Route { return Route{netip.MustParsePrefix(to), netip.MustParseAddr(by)} }

func TestPlan(t *testing.T) {
	for _, x := range []struct {
		rule string
		node *corev1.Node
		want []Route
	}{
		{"another node", node("b", "10.42.1.0/24", "192.168.7.2"), []Route{via("10.42.1.0/24", "192.168.7.2")}},
		{"this node", node("a", "10.42.0.0/24", "192.168.7.1"), nil},
		{"no address yet", node("b", "10.42.1.0/24"), nil},
		{"no addresses for pods yet", node("b", "", "192.168.7.2"), nil},
		{"the address of the family", node("b", "10.42.1.0/24", "fd00::2", "192.168.7.2"), []Route{via("10.42.1.0/24", "192.168.7.2")}},
		{"a range that is not the cluster's", node("b", "192.168.0.0/24", "192.168.7.2"), nil},
		{"all of the cluster and more", node("b", "10.0.0.0/8", "192.168.7.2"), nil},
	} {
		if got := Plan([]*corev1.Node{x.node}, "a", cluster); !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s: %v, want %v", x.rule, got, x.want)
		}
	}
}

// TestRunKeepsRoutes: routes follow the nodes, come back when somebody removes them, and others' routes stay.
func TestRunKeepsRoutes(t *testing.T) {
	netnstest.Need(t)
	other := netnstest.Namespace(t)
	netnstest.Cable(t, "up0", other, "up1")
	netnstest.Address(t, other, "up1", "192.168.7.2/24")
	netnstest.Address(t, "", "up0", "192.168.7.1/24")
	foreign := via("10.42.9.0/24", "192.168.7.2").kernel()
	foreign.Protocol = 4
	if err := netlink.RouteAdd(foreign); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	news := make(chan netlink.RouteUpdate, 64)
	if err := netlink.RouteSubscribe(news, ctx.Done()); err != nil {
		t.Fatal(err)
	}
	until := func(what string, want map[netip.Prefix]netip.Addr) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			have, err := installed(cluster)
			if err != nil {
				t.Fatal(err)
			}
			if reflect.DeepEqual(have, want) {
				return
			}
			select {
			case <-news:
			case <-deadline:
				t.Fatalf("%s: routes are %v, want %v", what, have, want)
			}
		}
	}
	changed, wants := make(chan struct{}), make(chan []Route, 1)
	state := []Route{via("10.42.1.0/24", "192.168.7.2")}
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, cluster, changed, func() []Route {
			select {
			case state = <-wants:
			default:
			}
			return state
		}, slog.New(slog.DiscardHandler))
	}()
	one, two := netip.MustParsePrefix("10.42.1.0/24"), netip.MustParsePrefix("10.42.2.0/24")
	by := netip.MustParseAddr("192.168.7.2")
	until("the first", map[netip.Prefix]netip.Addr{one: by})
	if err := netlink.RouteDel(via("10.42.1.0/24", "192.168.7.2").kernel()); err != nil {
		t.Fatal(err)
	}
	until("removed by somebody", map[netip.Prefix]netip.Addr{one: by})
	wants <- []Route{via("10.42.2.0/24", "192.168.7.2")}
	changed <- struct{}{}
	until("another node", map[netip.Prefix]netip.Addr{two: by})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := Apply(cluster, nil); err != nil {
		t.Fatal(err)
	}
	if have, _ := installed(cluster); len(have) != 0 {
		t.Errorf("left behind: %v", have)
	}
	if list, err := netlink.RouteGet(foreign.Dst.IP); err != nil || len(list) != 1 || list[0].Gw.String() != "192.168.7.2" {
		t.Errorf("somebody else's route is gone: %v %v", list, err)
	}
}
