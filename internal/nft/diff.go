// SPDX-License-Identifier: Apache-2.0

package nft

import "fmt"

// Change is one step from a table to another, as data. Exactly one group of fields is used, by Verb.
type Change struct {
	Verb     Verb
	Set      *Set
	Elements []Element
	Chain    *Chain
	Rule     Rule
}

// Verb says what a Change does.
type Verb string

// The verbs, in the order in which Diff uses them.
const (
	AddSet         Verb = "add set"
	AddChain       Verb = "add chain"
	DeleteElements Verb = "delete element"
	FlushChain     Verb = "flush chain"
	AddRule        Verb = "add rule"
	AddElements    Verb = "add element"
	DeleteChain    Verb = "delete chain"
	DeleteSet      Verb = "delete set"
)

// String renders the change as one nft command without the table's name.
func (c Change) String() string {
	switch c.Verb {
	case AddSet, DeleteSet:
		return fmt.Sprintf("%s %s", c.Verb, c.Set.Name)
	case AddElements, DeleteElements:
		s := &Set{Elements: c.Elements}
		return fmt.Sprintf("%s %s %v", c.Verb, c.Set.Name, s.elementTexts())
	case AddRule:
		return fmt.Sprintf("%s %s %s", c.Verb, c.Chain.Name, c.Rule)
	default:
		return fmt.Sprintf("%s %s", c.Verb, c.Chain.Name)
	}
}

// Diff says what turns have into want. It answers false if a set or base chain of the same name has another shape: then
// only a new table will do.
//
// The order makes every step valid: what is pointed at exists before, and goes after, what points at it.
func Diff(have, want *Table) ([]Change, bool) {
	haveSets, haveChains := byName(have)
	wantSets, wantChains := byName(want)
	var adds, dels, flushes, elems, gone []Change

	for _, s := range want.Sets {
		old, ok := haveSets[s.Name]
		switch {
		case !ok:
			adds = append(adds, Change{Verb: AddSet, Set: s})
			old = &Set{}
		case old.header() != s.header():
			return nil, false
		}
		del, add := diffElements(old, s)
		if len(del) > 0 {
			dels = append(dels, Change{Verb: DeleteElements, Set: s, Elements: del})
		}
		if len(add) > 0 {
			elems = append(elems, Change{Verb: AddElements, Set: s, Elements: add})
		}
	}
	for _, c := range want.Chains {
		old, ok := haveChains[c.Name]
		switch {
		case !ok:
			adds = append(adds, Change{Verb: AddChain, Chain: c})
		case old.header() != c.header():
			return nil, false
		case sameRules(old, c):
			continue
		default:
			flushes = append(flushes, Change{Verb: FlushChain, Chain: c})
		}
		for _, r := range c.Rules {
			flushes = append(flushes, Change{Verb: AddRule, Chain: c, Rule: r})
		}
	}
	// Chains that go may call each other: all are emptied before the first is deleted.
	for _, c := range have.Chains {
		if _, ok := wantChains[c.Name]; !ok {
			flushes = append(flushes, Change{Verb: FlushChain, Chain: c})
			gone = append(gone, Change{Verb: DeleteChain, Chain: c})
		}
	}
	var goneSets []Change
	for _, s := range have.Sets {
		if _, ok := wantSets[s.Name]; !ok {
			if len(s.Elements) > 0 {
				dels = append(dels, Change{Verb: DeleteElements, Set: s, Elements: s.Elements})
			}
			goneSets = append(goneSets, Change{Verb: DeleteSet, Set: s})
		}
	}
	return join(adds, dels, flushes, elems, gone, goneSets), true
}

func join(groups ...[]Change) []Change {
	var out []Change
	for _, g := range groups {
		out = append(out, g...)
	}
	return out
}

func byName(t *Table) (map[string]*Set, map[string]*Chain) {
	sets, chains := make(map[string]*Set, len(t.Sets)), make(map[string]*Chain, len(t.Chains))
	for _, s := range t.Sets {
		sets[s.Name] = s
	}
	for _, c := range t.Chains {
		chains[c.Name] = c
	}
	return sets, chains
}

func diffElements(old, new *Set) (del, add []Element) {
	have := make(map[string]bool, len(old.Elements))
	for _, e := range old.Elements {
		have[e.String()] = true
	}
	want := make(map[string]bool, len(new.Elements))
	for _, e := range new.Elements {
		t := e.String()
		if !have[t] && !want[t] {
			add = append(add, e)
		}
		want[t] = true
	}
	for _, e := range old.Elements {
		if !want[e.String()] {
			del = append(del, e)
		}
	}
	return del, add
}

func sameRules(a, b *Chain) bool {
	if len(a.Rules) != len(b.Rules) {
		return false
	}
	for i := range a.Rules {
		if a.Rules[i].String() != b.Rules[i].String() {
			return false
		}
	}
	return true
}
