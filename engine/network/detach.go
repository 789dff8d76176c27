// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// departure is an endpoint that nobody can use any more, but whose link is still being deleted, which takes the kernel 1 to
// 20 ms. Its file stays, and its address, interface name and network are not given away, until the link is gone.
type departure struct {
	endpoint *Endpoint
	done     chan struct{} // closed when it is out of the way, or an endpoint again because it could not be deleted
}

// Detach undoes Attach and frees address and ports; the namespace may be gone already. Not attached is no error.
func (n *Networks) Detach(_ context.Context, network, sandbox string) error {
	n.mu.Lock()
	net, err := n.get(network)
	if err != nil {
		n.mu.Unlock()
		return err
	}
	key := endpointKey{net.ID, sandbox}
	var d *departure
	if e := n.endpoints[key]; e != nil {
		d, err = n.depart(key, e)
	}
	n.mu.Unlock()
	if d == nil {
		return err
	}
	return errors.Join(n.deleteDeparted(key, d), n.routeOutAfter(d.endpoint))
}

// Rename makes a sandbox known by another name on its networks, in place of an old one.
func (n *Networks) Rename(_ context.Context, sandbox, old, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, e := range n.endpoints {
		i := slices.Index(e.Aliases, old)
		if key.sandbox != sandbox || i < 0 {
			continue
		}
		next := e.copy()
		next.Aliases[i] = name
		if err := n.files.saveEndpoint(&next, false); err != nil {
			return fmt.Errorf("rename %s to %s: %w", old, name, err)
		}
		n.endpoints[key] = &next
	}
	return nil
}

// DetachAll detaches a sandbox from every network it is on. It does not wait for the links of a namespace that is gone: the
// kernel deletes them as well.
func (n *Networks) DetachAll(_ context.Context, sandbox string) error {
	n.mu.Lock()
	var all []error
	away := map[endpointKey]*departure{}
	for key, e := range n.endpoints {
		if key.sandbox != sandbox {
			continue
		}
		d, err := n.depart(key, e)
		if err != nil {
			all = append(all, err)
			continue
		}
		away[key] = d
	}
	n.mu.Unlock()
	for key, d := range away {
		if pinned(d.endpoint.NetnsPath) {
			all = append(all, n.deleteDeparted(key, d))
			continue
		}
		go func() { // ends with the link; Close waits for it
			if err := n.deleteDeparted(key, d); err != nil {
				n.log.Error("an endpoint's link stays", "err", err)
			}
		}()
	}
	return errors.Join(all...)
}

// depart is the first half of detaching: nobody reaches the endpoint any more. mu is held.
func (n *Networks) depart(key endpointKey, e *Endpoint) (*departure, error) {
	closeAll(n.published[key])
	delete(n.published, key)
	delete(n.endpoints, key)
	if len(e.Ports) > 0 {
		if err := n.applyRules(); err != nil {
			n.endpoints[key] = e
			return nil, fmt.Errorf("detach %s from network %s: %w", e.Sandbox, e.Network, err)
		}
		forgetFlows(e)
	}
	d := &departure{endpoint: e, done: make(chan struct{})}
	n.leaving[key] = d
	return d, nil
}

// deleteDeparted is the second half. An address is free only when no rule and no link knows it any more, and the file goes
// last: what a crash interrupts is done again. mu is not held, as attaching others need not wait for the kernel.
func (n *Networks) deleteDeparted(key endpointKey, d *departure) error {
	err := deleteLink(n.reaper, d.endpoint.HostLink)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		err = n.files.removeEndpoint(key)
	}
	if err != nil {
		n.endpoints[key] = d.endpoint
		err = fmt.Errorf("detach %s from network %s: %w", key.sandbox, d.endpoint.Network, err)
	}
	delete(n.leaving, key)
	close(d.done)
	return err
}

// detach is both halves at once, with mu held.
func (n *Networks) detach(key endpointKey, e *Endpoint) error {
	d, err := n.depart(key, e)
	if err != nil {
		return err
	}
	n.mu.Unlock()
	defer n.mu.Lock()
	return n.deleteDeparted(key, d)
}

// await lets go of mu until no departure for which inTheWay says yes is under way; it says whether there was one. What was
// known under mu before must be asked again then.
func (n *Networks) await(inTheWay func(endpointKey, *Endpoint) bool) (waited bool) {
	for {
		var d *departure
		for key, l := range n.leaving {
			if inTheWay(key, l.endpoint) {
				d = l
			}
		}
		if d == nil {
			return waited
		}
		waited = true
		n.mu.Unlock()
		<-d.done
		n.mu.Lock()
	}
}

func deleteLink(nl *netlink.Handle, name string) error {
	link, err := nl.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = nl.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}
