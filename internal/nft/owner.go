// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Owner is the only writer of one table.
type Owner struct {
	name   string
	family nftables.TableFamily

	mu      sync.Mutex // guards applied and orders transactions
	applied *Table     // what the kernel has; nil: not known, so the next Apply replaces the whole table

	ports ports // of our own sockets, by which Guard tells our changes from others'
}

// ports remembers the netlink port ids of the last transactions.
type ports struct {
	mu   sync.Mutex // guards the fields below
	last [64]uint32
	next int
}

func (p *ports) add(port uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.next%len(p.last)] = port
	p.next++
}

func (p *ports) has(port uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.last[:], port)
}

// NewOwner owns the table of that name in the ip family of the calling thread's network namespace.
func NewOwner(name string) *Owner { return &Owner{name: name, family: nftables.TableFamilyIPv4} }

// NewOwner6 is NewOwner for the ip6 family. Its Tables are of Family IP6.
func NewOwner6(name string) *Owner { return &Owner{name: name, family: nftables.TableFamilyIPv6} }

// Apply brings the kernel's table to want in one transaction. It does nothing if want is what it applied last. The table's
// name in want does not matter.
func (o *Owner) Apply(want *Table) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.applied != nil {
		if changes, ok := Diff(o.applied, want); ok {
			if err := o.send(changes, false); err == nil {
				o.applied = want
				return nil
			}
			// The kernel's table is not what we think: replace it.
		}
	}
	return o.replace(want)
}

// Reassert writes the last applied table again as a whole. Without one it does nothing.
func (o *Owner) Reassert() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.applied == nil {
		return nil
	}
	return o.replace(o.applied)
}

// Remove deletes the table. Missing is no error.
func (o *Owner) Remove() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.applied = nil
	c, err := o.dial()
	if err != nil {
		return err
	}
	c.DelTable(o.table(c))
	return o.flush(c)
}

func (o *Owner) replace(want *Table) error {
	changes, _ := Diff(&Table{}, want)
	o.applied = nil
	if err := o.send(changes, true); err != nil {
		return err
	}
	o.applied = want
	return nil
}

// table adds the table, which does nothing if it is there.
func (o *Owner) table(c *nftables.Conn) *nftables.Table {
	return c.AddTable(&nftables.Table{Name: o.name, Family: o.family})
}

func (o *Owner) send(changes []Change, fresh bool) error {
	if len(changes) == 0 && !fresh {
		return nil
	}
	conn, err := o.dial()
	if err != nil {
		return err
	}
	t := o.table(conn)
	if fresh {
		conn.DelTable(t)
		t = o.table(conn)
	}
	c := &compiler{conn: conn, table: t}
	for _, ch := range changes {
		if err := c.change(ch); err != nil {
			return fmt.Errorf("nftables table %s: %s: %w", o.name, ch, err)
		}
	}
	return o.flush(conn)
}

func (o *Owner) flush(c *nftables.Conn) error {
	if err := c.Flush(); err != nil {
		return fmt.Errorf("change nftables table %s: %w", o.name, err)
	}
	return nil
}

// socketBuffer bounds one transaction: the kernel takes a batch in one piece and queues an answer for each message of it.
const socketBuffer = 64 << 20 // bytes; a limit, not an allocation

func (o *Owner) dial() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		port, err := portID(c)
		if err != nil {
			return err
		}
		o.ports.add(port)
		// Without CAP_NET_ADMIN over the initial user namespace the bounds of the machine stay, and so do we.
		return errors.Join(ignoreDenied(c.SetWriteBuffer(socketBuffer)), ignoreDenied(c.SetReadBuffer(socketBuffer)))
	}))
}

func portID(c *netlink.Conn) (port uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(int(fd)); err == nil {
			if nl, ok := sa.(*unix.SockaddrNetlink); ok {
				port = nl.Pid
			}
		}
	})
	return port, errors.Join(err, cerr)
}

func ignoreDenied(err error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EPERM) {
		return nil
	}
	return err
}

// compiler turns changes into the messages of one batch.
type compiler struct {
	conn   *nftables.Conn
	table  *nftables.Table
	lastID uint32 // ids of sets live only inside the batch
	err    error
}

// elementsPerMessage keeps a message's attributes below netlink's 64 KiB: an element takes under 120 bytes.
const elementsPerMessage = 256

func (c *compiler) change(ch Change) error {
	switch ch.Verb {
	case AddSet:
		return c.conn.AddSet(c.set(ch.Set), nil)
	case DeleteSet:
		c.conn.DelSet(c.set(ch.Set))
	case AddElements, DeleteElements:
		return c.elements(ch)
	case AddChain:
		c.conn.AddChain(c.chain(ch.Chain))
	case FlushChain:
		c.conn.FlushChain(c.chain(ch.Chain))
	case DeleteChain:
		c.conn.DelChain(c.chain(ch.Chain))
	case AddRule:
		var exprs []expr.Any
		for _, t := range ch.Rule {
			exprs = append(exprs, t.compile(c)...)
		}
		c.conn.AddRule(&nftables.Rule{Table: c.table, Chain: c.chain(ch.Chain), Exprs: exprs})
	}
	return c.err
}

func (c *compiler) elements(ch Change) error {
	set := c.set(ch.Set)
	set.ID = 0 // found by name: it may be older than this batch
	for rest := ch.Elements; len(rest) > 0; {
		n := min(len(rest), elementsPerMessage)
		list := setElements(rest[:n])
		rest = rest[n:]
		var err error
		if ch.Verb == AddElements {
			err = c.conn.SetAddElements(set, list)
		} else {
			err = c.conn.SetDeleteElements(set, list)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) set(s *Set) *nftables.Set {
	c.lastID++
	out := &nftables.Set{
		Table: c.table, ID: c.lastID, Name: s.Name, KeyType: s.Key.datatype(), Concatenation: len(s.Key) > 1,
		Dynamic: s.Dynamic, HasTimeout: s.Dynamic, Timeout: s.Timeout,
	}
	if s.Dynamic {
		out.Size = s.size()
	}
	if s.Value != nil {
		out.IsMap, out.DataType = true, s.Value.datatype()
	}
	return out
}

// anonymous makes a map that lives with the rule that looks into it.
func (c *compiler) anonymous(s *Set, dest uint32) expr.Any {
	set := c.set(s)
	set.Name, set.Anonymous, set.Constant = "__map%d", true, true
	if err := c.conn.AddSet(set, setElements(s.Elements)); err != nil {
		c.err = err
	}
	return &expr.Lookup{SourceRegister: reg0, IsDestRegSet: true, DestRegister: dest, SetName: set.Name, SetID: set.ID}
}

func setElements(list []Element) []nftables.SetElement {
	out := make([]nftables.SetElement, len(list))
	for i, e := range list {
		out[i].Key = concat(e.Key)
		switch {
		case len(e.Value) == 0:
		case e.Value[0].chain != "":
			out[i].VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.Value[0].chain}
		default:
			out[i].Val = concat(e.Value)
		}
	}
	return out
}

func (c *compiler) chain(ch *Chain) *nftables.Chain {
	out := &nftables.Chain{Table: c.table, Name: ch.Name}
	if ch.Hook == "" {
		return out
	}
	accept := nftables.ChainPolicyAccept
	out.Type, out.Policy = nftables.ChainType(ch.Type), &accept
	out.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(ch.Priority))
	out.Hooknum = nftables.ChainHookRef(hookNumber(ch.Hook))
	return out
}

func hookNumber(h Hook) nftables.ChainHook {
	switch h {
	case Prerouting:
		return unix.NF_INET_PRE_ROUTING
	case Input:
		return unix.NF_INET_LOCAL_IN
	case Forward:
		return unix.NF_INET_FORWARD
	case Output:
		return unix.NF_INET_LOCAL_OUT
	default:
		return unix.NF_INET_POST_ROUTING
	}
}
