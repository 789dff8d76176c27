// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

func TestCheckFindsWhatIsBroken(t *testing.T) {
	w := newWorld(t)
	w.must(w.n.EnsureDefaults(context.Background()))
	a := w.sandbox("a", "bridge", port(8086, 80, "tcp"))
	check := func() string {
		t.Helper()
		list, err := w.n.Check()
		w.must(err)
		return strings.Join(list, "; ")
	}
	w.expect("a sound state", check(), "")
	for what, c := range map[string]struct {
		breakIt func()
		want    string
	}{
		"link":      {func() { w.must(deleteLink(w.n.nl, a.HostLink)) }, "link " + a.HostLink + " of sandbox a is missing"},
		"namespace": {func() { w.must(w.n.RemoveNamespace(a.NetnsPath)) }, "network namespace " + a.NetnsPath + " of sandbox a is missing"},
		"stray link": {func() {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = linkName("knt", "x", "y")
			w.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
		}, "link " + linkName("knt", "x", "y") + " has no endpoint"},
		"table": {func() {
			conn, err := nftables.New()
			w.must(err)
			conn.FlushRuleset()
			w.must(conn.Flush())
		}, "nftables table knt-engine is not what it should be"},
	} {
		c.breakIt()
		if got := check(); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q does not say %q", what, got, c.want)
		}
	}
	w.n.Close()
	w.n = nil
	w.open()
	w.expect("after recovery", check(), "")
}
