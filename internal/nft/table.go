// SPDX-License-Identifier: Apache-2.0

// Package nft describes one nftables table as a value, and brings the kernel's to it.
//
// A Table is made of sets, maps and chains, and a chain of rules, each rule of terms (IPSaddr, Dport, DNAT …). The same value
// renders as the text that `nft list table` would show, which is what goldens and people read, and compiles to netlink
// messages, which is what the kernel gets: there is no nft program and no parser of rules in between. Diff, which is pure,
// says what turns one table into another; Owner.Apply sends exactly that in one transaction, so that a packet sees the
// old table or the new, never a mixture, and unchanged chains keep their counters and state.
//
// An Owner owns one table of the ip or ip6 family and nothing else: it never reads or writes another. Owner.Watch tells when
// somebody else may have changed it, Owner.Intact says whether that is so, and Owner.Reassert puts it back.
//
// It knows nothing of containers or services. No goroutines but inside Watch, no files.
package nft

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Family is the kind of packets that a table sees.
type Family string

// The families. The zero value is IP.
const (
	IP  Family = "ip"
	IP6 Family = "ip6"
)

// Table is a whole table of one family.
type Table struct {
	Name   string
	Family Family
	Sets   []*Set
	Chains []*Chain
}

// Set is a named set, or a map if it has a Value type. Its elements are managed unless it is dynamic (packets add them).
type Set struct {
	Name     string
	Key      Type
	Value    Type          // zero: a set
	Dynamic  bool          // filled by Update
	Timeout  time.Duration // of a dynamic set's elements
	Size     uint32        // bound of a dynamic set; 0: the kernel's default (65535)
	Elements []Element
}

// Element is one member of a set (Key) or pair of a map (Key, Value). The parts of a concatenation follow each other.
type Element struct {
	Key   []Value
	Value []Value
}

// Hook is where the kernel calls a base chain.
type Hook string

// The hooks of both families.
const (
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
)

// Priorities of base chains by their usual names.
const (
	Raw    = -300
	DstNAT = -100
	Filter = 0
	SrcNAT = 100
)

// Chain is a base chain if it has a hook. The policy is always accept: other tables have the last word on dropping.
type Chain struct {
	Name     string
	Type     string // filter or nat; base chains only
	Hook     Hook
	Priority int
	Rules    []Rule
}

// Rule is its terms in order: matches first, then a statement.
type Rule []Term

// Chain returns the chain of that name, made empty if the table has none yet.
func (t *Table) Chain(name string) *Chain {
	for _, c := range t.Chains {
		if c.Name == name {
			return c
		}
	}
	c := &Chain{Name: name}
	t.Chains = append(t.Chains, c)
	return c
}

// Add appends a rule.
func (c *Chain) Add(terms ...Term) { c.Rules = append(c.Rules, Rule(terms)) }

// String renders the table in nft's own language; `nft -f` would take it. Elements are sorted.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", cmp.Or(t.Family, IP), t.Name)
	for _, s := range t.Sets {
		b.WriteString(indent(s.header()))
		if len(s.Elements) > 0 {
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(s.elementTexts(), ",\n\t\t             "))
		}
		b.WriteString("\t}\n")
	}
	for _, c := range t.Chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if h := c.header(); h != "" {
			fmt.Fprintf(&b, "\t\t%s\n", h)
		}
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// String renders one rule.
func (r Rule) String() string {
	parts := make([]string, len(r))
	for i, t := range r {
		parts[i] = t.String()
	}
	return strings.Join(parts, " ")
}

func (c *Chain) header() string {
	if c.Hook == "" {
		return ""
	}
	return fmt.Sprintf("type %s hook %s priority %d; policy accept;", c.Type, c.Hook, c.Priority)
}

func (s *Set) header() string {
	var b strings.Builder
	kind := "set"
	typ := s.Key.String()
	if s.Value != nil {
		kind, typ = "map", typ+" : "+s.Value.String()
	}
	fmt.Fprintf(&b, "%s %s {\n\ttype %s\n", kind, s.Name, typ)
	if s.Dynamic {
		fmt.Fprintf(&b, "\tsize %d\n\tflags dynamic,timeout\n\ttimeout %ds\n", s.size(), int(s.Timeout.Seconds()))
	}
	return b.String()
}

func (s *Set) size() uint32 {
	if s.Size == 0 {
		return 65535
	}
	return s.Size
}

func (s *Set) elementTexts() []string {
	out := make([]string, len(s.Elements))
	for i, e := range s.Elements {
		out[i] = e.String()
	}
	slices.Sort(out)
	return out
}

// String renders "key" or "key : value".
func (e Element) String() string {
	if len(e.Value) == 0 {
		return texts(e.Key)
	}
	return texts(e.Key) + " : " + texts(e.Value)
}

func texts(vs []Value) string {
	parts := make([]string, len(vs))
	for i, v := range vs {
		parts[i] = v.text
	}
	return strings.Join(parts, " . ")
}

func indent(s string) string {
	return "\t" + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n\t") + "\n"
}

// Sort orders sets and chains by name, base chains first; builders that walk maps call it last.
func (t *Table) Sort() {
	slices.SortFunc(t.Sets, func(a, b *Set) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Chains, func(a, b *Chain) int {
		if (a.Hook == "") != (b.Hook == "") {
			return cmp.Compare(b.Hook, a.Hook)
		}
		return cmp.Compare(a.Name, b.Name)
	})
}
