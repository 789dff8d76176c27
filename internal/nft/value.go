// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Type is a data type, or a concatenation of several.
type Type []Base

// Base is one data type by nft's name.
type Base string

// The data types in use.
const (
	IPv4    Base = "ipv4_addr"
	IPv6    Base = "ipv6_addr"
	Proto   Base = "inet_proto"
	Port    Base = "inet_service"
	Verdict Base = "verdict"
	index   Base = "integer" // key of the anonymous maps behind numgen
)

// String joins the parts as nft does.
func (t Type) String() string {
	parts := make([]string, len(t))
	for i, b := range t {
		parts[i] = string(b)
	}
	return strings.Join(parts, " . ")
}

func (t Type) datatype() nftables.SetDatatype {
	if len(t) == 1 {
		return t[0].datatype()
	}
	parts := make([]nftables.SetDatatype, len(t))
	for i, b := range t {
		parts[i] = b.datatype()
	}
	return nftables.MustConcatSetType(parts...) // at most 5 parts; ours have 3
}

func (b Base) datatype() nftables.SetDatatype {
	switch b {
	case IPv4:
		return nftables.TypeIPAddr
	case IPv6:
		return nftables.TypeIP6Addr
	case Proto:
		return nftables.TypeInetProto
	case Port:
		return nftables.TypeInetService
	case Verdict:
		return nftables.TypeVerdict
	default:
		return nftables.TypeInteger
	}
}

// Value is one part of a key or of a map's value.
type Value struct {
	text  string
	bytes []byte
	chain string // of a verdict
}

// Addr is an address.
func Addr(a netip.Addr) Value {
	a = a.Unmap()
	return Value{text: a.String(), bytes: a.AsSlice()}
}

// words is how many of the kernel's 32-bit registers a part of a concatenation fills.
func (b Base) words() int {
	if b == IPv6 {
		return 4
	}
	return 1
}

// PortNumber is a transport port.
func PortNumber(p uint16) Value {
	return Value{text: strconv.Itoa(int(p)), bytes: binary.BigEndian.AppendUint16(nil, p)}
}

// Protocol is tcp, udp or sctp, in any case.
func Protocol(name string) Value {
	name = strings.ToLower(name)
	return Value{text: name, bytes: []byte{protocolNumber(name)}}
}

// Goto is a verdict for maps.
func Goto(chain string) Value { return Value{text: "goto " + chain, chain: chain} }

func indexValue(i int) Value {
	return Value{text: strconv.Itoa(i), bytes: binary.NativeEndian.AppendUint32(nil, uint32(i))}
}

func protocolNumber(name string) byte {
	switch name {
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	default:
		return unix.IPPROTO_TCP
	}
}

// concat lays parts out as the kernel's registers do: each padded to four bytes. A lone part keeps its own length.
func concat(vs []Value) []byte {
	if len(vs) == 1 {
		return vs[0].bytes
	}
	var out []byte
	for _, v := range vs {
		out = append(out, v.bytes...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	return out
}
