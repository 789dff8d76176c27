// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Term is one match or statement of a rule.
type Term struct {
	text string
	// compile appends the kernel's expressions; c makes anonymous maps on the way.
	compile func(c *compiler) []expr.Any
}

// String renders the term in nft's language.
func (t Term) String() string { return t.text }

// Registers: the kernel's sixteen 32-bit registers are numbered from 8; the first four are also register 1.
const (
	reg0  = unix.NFT_REG_1
	reg32 = 8
)

func regAt(word int) uint32 {
	if word == 0 {
		return reg0
	}
	return uint32(reg32 + word)
}

func plain(text string, exprs ...expr.Any) Term {
	return Term{text: text, compile: func(*compiler) []expr.Any { return exprs }}
}

// Selector is something of a packet that a lookup uses as its key, or as a part of it.
type Selector struct {
	text string
	typ  Base
	load func(reg uint32) expr.Any
}

// The selectors.
func Saddr() Selector {
	return Selector{"ip saddr", IPv4, func(r uint32) expr.Any { return networkHeader(r, 12, 4) }}
}
func Daddr() Selector {
	return Selector{"ip daddr", IPv4, func(r uint32) expr.Any { return networkHeader(r, 16, 4) }}
}
func Saddr6() Selector {
	return Selector{"ip6 saddr", IPv6, func(r uint32) expr.Any { return networkHeader(r, 8, 16) }}
}
func Daddr6() Selector {
	return Selector{"ip6 daddr", IPv6, func(r uint32) expr.Any { return networkHeader(r, 24, 16) }}
}
func L4Proto() Selector {
	return Selector{"meta l4proto", Proto, func(r uint32) expr.Any {
		return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r}
	}}
}
func Dport() Selector {
	return Selector{"th dport", Port, func(r uint32) expr.Any {
		return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
	}}
}

func networkHeader(reg, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func loadAll(sel []Selector) []expr.Any {
	out := make([]expr.Any, len(sel))
	word := 0
	for i, s := range sel {
		out[i] = s.load(regAt(word))
		word += s.typ.words()
	}
	return out
}

func selectorText(sel []Selector) string {
	parts := make([]string, len(sel))
	for i, s := range sel {
		parts[i] = s.text
	}
	return strings.Join(parts, " . ")
}

// IPSaddr matches the source address by prefix; IPDaddr the destination. The Not forms invert. The prefix is of the table's
// family.
func IPSaddr(p netip.Prefix) Term    { return address("saddr", p, expr.CmpOpEq) }
func IPDaddr(p netip.Prefix) Term    { return address("daddr", p, expr.CmpOpEq) }
func IPSaddrNot(p netip.Prefix) Term { return address("saddr", p, expr.CmpOpNeq) }
func IPDaddrNot(p netip.Prefix) Term { return address("daddr", p, expr.CmpOpNeq) }

func address(field string, p netip.Prefix, op expr.CmpOp) Term {
	p = p.Masked()
	family, length, offset := "ip ", uint32(4), map[string]uint32{"saddr": 12, "daddr": 16}[field]
	if p.Addr().Is6() {
		family, length, offset = "ip6 ", 16, map[string]uint32{"saddr": 8, "daddr": 24}[field]
	}
	text, what := family+field+" ", p.String()
	if op == expr.CmpOpNeq {
		text += "!= "
	}
	exprs := []expr.Any{networkHeader(reg0, offset, length)}
	if p.IsSingleIP() {
		what = p.Addr().String()
	} else {
		mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
		exprs = append(exprs, &expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: length, Mask: mask, Xor: make([]byte, length)})
	}
	return plain(text+what, append(exprs, &expr.Cmp{Op: op, Register: reg0, Data: p.Addr().AsSlice()})...)
}

// Iif and Oif match the name of the link a packet came in by or goes out by. A name that ends in * is a prefix.
func Iif(name string) Term { return link("iifname", expr.MetaKeyIIFNAME, name) }
func Oif(name string) Term { return link("oifname", expr.MetaKeyOIFNAME, name) }

func link(field string, key expr.MetaKey, name string) Term {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		data = []byte(prefix) // comparing fewer bytes is how the kernel matches a prefix
	}
	return plain(fmt.Sprintf("%s %q", field, name),
		&expr.Meta{Key: key, Register: reg0}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: data})
}

// TCPUDP matches packets of one transport protocol.
func TCPUDP(protocol string) Term {
	v := Protocol(protocol)
	return plain("meta l4proto "+v.text,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: v.bytes})
}

// States of a connection, to be combined.
const (
	Established = expr.CtStateBitESTABLISHED
	Related     = expr.CtStateBitRELATED
	New         = expr.CtStateBitNEW
	Invalid     = expr.CtStateBitINVALID
)

// CtState matches packets whose connection is in one of the states.
func CtState(bits uint32) Term {
	names := []string{}
	for _, s := range []struct {
		bit  uint32
		name string
	}{{Invalid, "invalid"}, {Established, "established"}, {Related, "related"}, {New, "new"}} {
		if bits&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	return plain("ct state "+strings.Join(names, ","), ctBits(expr.CtKeySTATE, bits)...)
}

// CtDNAT matches packets of connections whose destination was translated, by whomever.
func CtDNAT() Term { return plain("ct status dnat", ctBits(expr.CtKeySTATUS, 1<<5)...) } // IPS_DST_NAT

func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)},
	}
}

// DaddrLocal matches packets to an address of this machine; SaddrLocal from one, SaddrNotLocal from elsewhere.
func DaddrLocal() Term {
	return fib("fib daddr type local", &expr.Fib{FlagDADDR: true}, expr.CmpOpEq)
}
func SaddrLocal() Term {
	return fib("fib saddr type local", &expr.Fib{FlagSADDR: true}, expr.CmpOpEq)
}
func SaddrNotLocal() Term {
	return fib("fib saddr type != local", &expr.Fib{FlagSADDR: true}, expr.CmpOpNeq)
}

func fib(text string, f *expr.Fib, op expr.CmpOp) Term {
	f.Register, f.ResultADDRTYPE = reg0, true
	return plain(text, f, &expr.Cmp{Op: op, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)})
}

// SetMark sets bits of the packet's mark; HasMark matches when all of them are set; ClearMark takes them away.
func SetMark(bits uint32) Term {
	return plain(fmt.Sprintf("meta mark set meta mark | 0x%x", bits), markExprs(^bits, bits)...)
}
func ClearMark(bits uint32) Term {
	return plain(fmt.Sprintf("meta mark set meta mark & 0x%x", ^bits), markExprs(^bits, 0)...)
}
func HasMark(bits uint32) Term {
	b := binaryutil.NativeEndian.PutUint32(bits)
	return plain(fmt.Sprintf("meta mark & 0x%x == 0x%x", bits, bits),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: b, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: b})
}

func markExprs(mask, xor uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0, SourceRegister: true},
	}
}

// InSet matches when the selectors' concatenation is in the set.
func InSet(set string, sel ...Selector) Term {
	return plain(selectorText(sel)+" @"+set,
		append(loadAll(sel), &expr.Lookup{SourceRegister: reg0, SetName: set})...)
}

// VMap goes where the map says, or on to the next rule.
func VMap(name string, sel ...Selector) Term {
	return plain(selectorText(sel)+" vmap @"+name,
		append(loadAll(sel), &expr.Lookup{SourceRegister: reg0, SetName: name, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT})...)
}

// DNATMap translates the destination to what the map (… : ipv4_addr . inet_service) says, or goes on to the next rule.
func DNATMap(name string, sel ...Selector) Term {
	exprs := append(loadAll(sel), &expr.Lookup{SourceRegister: reg0, SetName: name, IsDestRegSet: true, DestRegister: reg0}, dnatFromRegisters())
	return plain("dnat ip to "+selectorText(sel)+" map @"+name, exprs...)
}

// DNATMap6 is DNATMap in a table of the ip6 family; the map is … : ipv6_addr . inet_service.
func DNATMap6(name string, sel ...Selector) Term {
	dnat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV6, RegAddrMin: regAt(0), RegProtoMin: regAt(4), Specified: true}
	exprs := append(loadAll(sel), &expr.Lookup{SourceRegister: reg0, SetName: name, IsDestRegSet: true, DestRegister: reg0}, dnat)
	return plain("dnat ip6 to "+selectorText(sel)+" map @"+name, exprs...)
}

// DNATRandom translates the destination to one of the targets, each with the same chance.
func DNATRandom(targets []netip.AddrPort) Term {
	if len(targets) == 1 {
		return DNAT(targets[0])
	}
	m := &Set{Key: Type{index}, Value: Type{IPv4, Port}}
	for i, t := range targets {
		m.Elements = append(m.Elements, Element{Key: []Value{indexValue(i)}, Value: []Value{Addr(t.Addr()), PortNumber(t.Port())}})
	}
	return Term{text: "dnat ip to " + numgenText(m), compile: func(c *compiler) []expr.Any {
		return []expr.Any{numgen(len(targets)), c.anonymous(m, reg0), dnatFromRegisters()}
	}}
}

// GotoRandom goes to one of the chains, each with the same chance.
func GotoRandom(chains []string) Term {
	if len(chains) == 1 {
		return plain("goto "+chains[0], &expr.Verdict{Kind: expr.VerdictGoto, Chain: chains[0]})
	}
	m := &Set{Key: Type{index}, Value: Type{Verdict}}
	for i, ch := range chains {
		m.Elements = append(m.Elements, Element{Key: []Value{indexValue(i)}, Value: []Value{Goto(ch)}})
	}
	return Term{text: strings.Replace(numgenText(m), " map ", " vmap ", 1), compile: func(c *compiler) []expr.Any {
		return []expr.Any{numgen(len(chains)), c.anonymous(m, unix.NFT_REG_VERDICT)}
	}}
}

func numgenText(m *Set) string {
	parts := make([]string, len(m.Elements))
	for i, e := range m.Elements {
		parts[i] = e.String()
	}
	return fmt.Sprintf("numgen random mod %d map { %s }", len(parts), strings.Join(parts, ", "))
}

func numgen(n int) expr.Any {
	return &expr.Numgen{Register: reg0, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM}
}

// DNAT translates the destination.
func DNAT(to netip.AddrPort) Term {
	a := to.Addr().Unmap().As4()
	return plain("dnat to "+to.String(),
		&expr.Immediate{Register: regAt(0), Data: a[:]},
		&expr.Immediate{Register: regAt(1), Data: binaryutil.BigEndian.PutUint16(to.Port())},
		dnatFromRegisters())
}

func dnatFromRegisters() expr.Any {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: regAt(0), RegProtoMin: regAt(1), Specified: true}
}

// Update puts the source address into a dynamic set, or renews its timeout there.
func Update(set string, timeout time.Duration, sel Selector) Term {
	return plain(fmt.Sprintf("update @%s { %s timeout %ds }", set, sel.text, int(timeout.Seconds())),
		sel.load(reg0), &expr.Dynset{SrcRegKey: reg0, SetName: set, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout})
}

// Masquerade takes the outgoing link's address as the source.
func Masquerade() Term { return plain("masquerade", &expr.Masq{}) }

// Accept ends the base chain; Drop ends the packet; Return goes back to the calling chain.
func Accept() Term { return plain("accept", &expr.Verdict{Kind: expr.VerdictAccept}) }
func Drop() Term   { return plain("drop", &expr.Verdict{Kind: expr.VerdictDrop}) }
func Return() Term { return plain("return", &expr.Verdict{Kind: expr.VerdictReturn}) }

// JumpTo calls a chain; GotoChain never comes back.
func JumpTo(chain string) Term {
	return plain("jump "+chain, &expr.Verdict{Kind: expr.VerdictJump, Chain: chain})
}
func GotoChain(chain string) Term {
	return plain("goto "+chain, &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain})
}

// Reject answers "port unreachable": a client is refused at once instead of waiting.
func Reject() Term {
	return plain("reject", &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3})
}

// RejectReset answers a TCP segment with a reset. Linux clients see "connection refused" for either.
func RejectReset() Term {
	return plain("meta l4proto tcp reject with tcp reset",
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
}
