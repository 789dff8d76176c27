// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// sample uses every term and kind of set.
func sample() *Table {
	ep := netip.MustParseAddrPort
	pfx := netip.MustParsePrefix
	t := &Table{Name: "x", Sets: []*Set{
		{Name: "ips", Key: Type{IPv4}, Elements: []Element{{Key: []Value{Addr(netip.MustParseAddr("10.1.0.1"))}}}},
		{Name: "pairs", Key: Type{IPv4, IPv4}, Elements: []Element{{Key: []Value{Addr(netip.MustParseAddr("10.1.0.1")), Addr(netip.MustParseAddr("10.1.0.2"))}}}},
		{Name: "services", Key: Type{IPv4, Proto, Port}, Value: Type{Verdict}, Elements: []Element{
			{Key: []Value{Addr(netip.MustParseAddr("10.2.0.1")), Protocol("TCP"), PortNumber(80)}, Value: []Value{Goto("svc")}},
		}},
		{Name: "calls", Key: Type{Proto}, Value: Type{Verdict}, Elements: []Element{{Key: []Value{Protocol("udp")}, Value: []Value{Goto("svc")}}}},
		{Name: "published", Key: Type{Proto, Port}, Value: Type{IPv4, Port}, Elements: []Element{
			{Key: []Value{Protocol("tcp"), PortNumber(8080)}, Value: []Value{Addr(netip.MustParseAddr("10.3.0.7")), PortNumber(80)}},
		}},
		{Name: "affinity", Key: Type{IPv4}, Dynamic: true, Timeout: 3 * time.Hour},
	}}
	t.Chains = []*Chain{{Name: "pre", Type: "nat", Hook: Prerouting, Priority: DstNAT}, {Name: "fwd", Type: "filter", Hook: Forward, Priority: Filter},
		{Name: "post", Type: "nat", Hook: Postrouting, Priority: SrcNAT}, {Name: "out", Type: "nat", Hook: Output, Priority: DstNAT}, {Name: "in", Type: "filter", Hook: Input, Priority: -110}}
	t.Chain("ep1").Add(Update("affinity", 3*time.Hour, Saddr()), DNAT(ep("10.3.0.1:80")))
	t.Chain("svc").Add(InSet("affinity", Saddr()), GotoChain("ep1"))
	t.Chain("svc").Add(IPSaddrNot(pfx("10.0.0.0/8")), SaddrNotLocal(), SetMark(0x4000))
	t.Chain("svc").Add(DNATRandom([]netip.AddrPort{ep("10.3.0.1:80"), ep("10.3.0.2:81"), ep("10.3.0.3:82")}))
	t.Chain("svc2").Add(GotoRandom([]string{"ep1", "svc"}))
	t.Chain("svc2").Add(GotoRandom([]string{"ep1"}))
	t.Chain("pre").Add(VMap("services", Daddr(), L4Proto(), Dport()))
	t.Chain("pre").Add(DaddrLocal(), IPDaddrNot(pfx("127.0.0.0/8")), DNATMap("published", L4Proto(), Dport()))
	t.Chain("out").Add(SaddrLocal(), TCPUDP("udp"), JumpTo("svc2"))
	t.Chain("fwd").Add(Iif("a0"), Oif("b*"), CtState(Established|Related), Accept())
	t.Chain("fwd").Add(Iif("a0"), Oif("b0"), CtState(New|Invalid), CtDNAT(), Drop())
	t.Chain("in").Add(InSet("ips", Daddr()), RejectReset())
	t.Chain("in").Add(InSet("ips", Daddr()), Reject())
	t.Chain("post").Add(HasMark(0x4000), ClearMark(0x4000), Masquerade())
	t.Chain("post").Add(InSet("pairs", Saddr(), Daddr()), Masquerade())
	t.Chain("post").Add(IPSaddr(pfx("10.3.0.0/16")), IPDaddr(pfx("10.3.0.9/32")), Return())
	return t
}

// The kernel's own listing, by the reference tool if the machine has it, says the same as our text.
func TestTextIsWhatTheKernelHas(t *testing.T) {
	netnstest.Need(t)
	o := NewOwner("x")
	t.Cleanup(func() { o.Remove() })
	want := sample()
	if err := o.Apply(want); err != nil {
		t.Fatal(err)
	}
	if ok, err := o.Intact(); !ok || err != nil {
		t.Fatalf("Intact after Apply = %v, %v", ok, err)
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("the nft program is not installed; netlink round trip was checked")
	}
	out, err := exec.Command(nft, "-nn", "list", "table", "ip", "x").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, want := normalize(string(out)), normalize(want.String()); got != want {
		t.Errorf("the kernel has\n%s\nwe say\n%s", got, want)
	}
}

// The same in the ip6 family.
func TestTextOfIPv6IsWhatTheKernelHas(t *testing.T) {
	netnstest.Need(t)
	o := NewOwner6("x6")
	t.Cleanup(func() { o.Remove() })
	a := netip.MustParseAddr
	want := &Table{Name: "x6", Family: IP6, Sets: []*Set{
		{Name: "on", Key: Type{IPv6, Proto, Port}, Value: Type{IPv6, Port}, Elements: []Element{
			{Key: []Value{Addr(a("2001:db8::1")), Protocol("tcp"), PortNumber(80)}, Value: []Value{Addr(a("fd00::2")), PortNumber(81)}}}},
		{Name: "pairs", Key: Type{IPv6, IPv6}, Elements: []Element{{Key: []Value{Addr(a("fd00::1")), Addr(a("fd00::2"))}}}},
	}, Chains: []*Chain{{Name: "pre", Type: "nat", Hook: Prerouting, Priority: DstNAT}, {Name: "post", Type: "nat", Hook: Postrouting, Priority: SrcNAT}}}
	want.Chain("pre").Add(DaddrLocal(), IPDaddrNot(netip.MustParsePrefix("::1/128")), DNATMap6("on", Daddr6(), L4Proto(), Dport()))
	want.Chain("post").Add(InSet("pairs", Saddr6(), Daddr6()), Masquerade())
	want.Chain("post").Add(IPSaddr(netip.MustParsePrefix("fd00::/64")), Masquerade())
	if err := o.Apply(want); err != nil {
		t.Fatal(err)
	}
	if ok, err := o.Intact(); !ok || err != nil {
		t.Fatalf("Intact after Apply = %v, %v", ok, err)
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("the nft program is not installed; netlink round trip was checked")
	}
	out, err := exec.Command(nft, "-nn", "list", "table", "ip6", "x6").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, want := normalize(string(out)), normalize(want.String()); got != want {
		t.Errorf("the kernel has\n%s\nwe say\n%s", got, want)
	}
}

// normalize takes spelling differences out: how nft breaks lines, prints numbers of protocols and orders elements.
func normalize(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	r := strings.NewReplacer("policy accept;", "", "meta l4proto 6", "meta l4proto tcp", "meta l4proto 17", "meta l4proto udp",
		". 6 .", ". tcp .", ". 17 .", ". udp .", "{ 6 .", "{ tcp .", "{ 17 :", "{ udp :", "ct state 0x2,0x4", "ct state established,related", "ct state 0x1,0x8", "ct state invalid,new",
		"size 65535", "", "priority dstnat", "priority -100", "0x0000", "0x",
		// nft believes the library that constant maps are big endian; the kernel compares bytes.
		"16777216 :", "1 :", "33554432 :", "2 :",
		"ct status 0x20", "ct status dnat", "fib daddr type 2", "fib daddr type local", "fib saddr type 2", "fib saddr type local",
		"fib saddr type != 2", "fib saddr type != local",
		"meta l4proto tcp reject with tcp reset", "reject with tcp reset")
	s = r.Replace(s)
	return strings.Join(strings.Fields(s), " ")
}

func TestDiffTurnsOneTableIntoAnother(t *testing.T) {
	netnstest.Need(t)
	o := NewOwner("y")
	t.Cleanup(func() { o.Remove() })
	a, b := sample(), sample()
	b.Chains = b.Chains[:5] // all regular chains go …
	for _, c := range b.Chains {
		c.Rules = nil
	}
	b.Sets = b.Sets[:1] // … and all sets but one, which changes
	b.Sets[0].Elements = []Element{{Key: []Value{Addr(netip.MustParseAddr("10.9.9.9"))}}}
	b.Chain("new").Add(Drop())
	for i, want := range []*Table{a, b, a, b, {}} {
		if err := o.Apply(want); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if ok, err := o.Intact(); !ok || err != nil {
			t.Fatalf("step %d: intact %v, %v", i, ok, err)
		}
	}
}

func TestDiffOfEqualTablesIsEmpty(t *testing.T) {
	if changes, ok := Diff(sample(), sample()); !ok || len(changes) != 0 {
		t.Errorf("Diff(x, x) = %v, %v", changes, ok)
	}
}

func TestDiffTouchesOnlyWhatChanged(t *testing.T) {
	a, b := sample(), sample()
	b.Chain("svc2").Rules = b.Chain("svc2").Rules[:1]
	b.Sets[4].Elements[0].Value[1] = PortNumber(81)
	changes, ok := Diff(a, b)
	want := "delete element published [tcp . 8080 : 10.3.0.7 . 80]\nflush chain svc2\n" +
		"add rule svc2 numgen random mod 2 vmap { 0 : goto ep1, 1 : goto svc }\nadd element published [tcp . 8080 : 10.3.0.7 . 81]\n"
	var got strings.Builder
	for _, c := range changes {
		fmt.Fprintln(&got, c)
	}
	if !ok || got.String() != want {
		t.Errorf("got %v\n%swant\n%s", ok, got.String(), want)
	}
}

func TestManyElementsAndChainsGoInOneTransaction(t *testing.T) {
	netnstest.Need(t)
	o := NewOwner("big")
	t.Cleanup(func() { o.Remove() })
	tab := &Table{Sets: []*Set{{Name: "m", Key: Type{IPv4, Proto, Port}, Value: Type{Verdict}}}}
	for i := range 3000 {
		name := fmt.Sprintf("svc-%d", i)
		a := netip.AddrFrom4([4]byte{10, 43, byte(i >> 8), byte(i)})
		tab.Chain(name).Add(DNATRandom([]netip.AddrPort{netip.AddrPortFrom(a, 80), netip.AddrPortFrom(a, 81)}))
		tab.Sets[0].Elements = append(tab.Sets[0].Elements, Element{Key: []Value{Addr(a), Protocol("tcp"), PortNumber(80)}, Value: []Value{Goto(name)}})
	}
	if err := o.Apply(tab); err != nil {
		t.Fatal(err)
	}
	if ok, err := o.Intact(); !ok || err != nil {
		t.Fatal(ok, err)
	}
}

func TestGuardRestoresAFlushedTable(t *testing.T) {
	netnstest.Need(t)
	o := NewOwner("z")
	t.Cleanup(func() { o.Remove() })
	if err := o.Apply(sample()); err != nil {
		t.Fatal(err)
	}
	// The process's first netlink port is the one any socket of ours may get again; the stranger below must have another.
	keep, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- o.Guard(ctx, slog.New(slog.DiscardHandler)) }()
	for i := range 3 {
		c, _ := nftables.New()
		switch i {
		case 0:
			c.FlushRuleset()
		case 1:
			c.FlushTable(&nftables.Table{Name: "z", Family: nftables.TableFamilyIPv4}) // the rules alone
		case 2:
			set, err := c.GetSetByName(&nftables.Table{Name: "z", Family: nftables.TableFamilyIPv4}, "published")
			if err != nil {
				t.Fatal(err)
			}
			c.FlushSet(set)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		if ok, _ := o.Intact(); ok {
			t.Log("restored before we looked, or nothing was flushed")
		}
		deadline := time.Now().Add(5 * time.Second)
		for ok := false; !ok; ok, _ = o.Intact() {
			if time.Now().After(deadline) {
				t.Fatalf("case %d: not restored", i)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
