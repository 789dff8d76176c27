// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"maps"

	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/internal/errs"
)

// Connect puts a container on a further network, at its next start if it does not run.
func (e *Engine) Connect(ctx context.Context, ref, name string, n NetworkSpec) error {
	c, rec, net, unlock, err := e.toRewire(ref, name)
	if err != nil {
		return err
	}
	defer unlock()
	if first := mainNetwork(rec); first == net.Name || hasKey(rec.Networks, net.Name) {
		return errs.New(errs.Conflict, "endpoint with name %s already exists in network %s", rec.Spec.Name, net.Name)
	}
	rec.Networks = maps.Clone(rec.Networks)
	if rec.Networks == nil {
		rec.Networks = map[string]NetworkSpec{}
	}
	n.Mode = net.Name
	rec.Networks[net.Name] = n
	if st := c.status(); st.running() {
		endpoints := maps.Clone(st.Endpoints)
		if endpoints == nil {
			endpoints = map[string]Endpoint{}
		}
		if err := e.attach(ctx, c, rec, net.Name, n, endpoints); err != nil {
			return err
		}
		if err := e.rewriteFiles(c, rec, st.Endpoints, endpoints); err != nil {
			return errors.Join(err, e.cfg.Networks.Detach(ctx, net.ID, c.id))
		}
		c.set(func(s *status) { s.Endpoints = endpoints })
		if err := c.saveStatus(); err != nil {
			return err
		}
	}
	if err := c.saveRecord(rec); err != nil {
		return err
	}
	e.Publish(Event{Type: "network", Action: "connect", ID: net.ID, Attributes: map[string]string{"container": c.id, "name": net.Name, "type": net.Driver}})
	return nil
}

// Disconnect takes a container off a network.
func (e *Engine) Disconnect(ctx context.Context, ref, name string) error {
	c, rec, net, unlock, err := e.toRewire(ref, name)
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case hasKey(rec.Networks, net.Name):
		rec.Networks = maps.Clone(rec.Networks)
		delete(rec.Networks, net.Name)
	case mainNetwork(rec) == net.Name:
		rec.Spec.Network.Mode = "none"
	default:
		return errs.New(errs.Conflict, "container %s is not connected to network %s", c.id, net.Name)
	}
	if st := c.status(); st.running() {
		if err := e.cfg.Networks.Detach(ctx, net.ID, c.id); err != nil {
			return err
		}
		endpoints := maps.Clone(st.Endpoints)
		delete(endpoints, net.Name)
		if err := e.rewriteFiles(c, rec, st.Endpoints, endpoints); err != nil {
			return err
		}
		c.set(func(s *status) { s.Endpoints = endpoints })
		if err := c.saveStatus(); err != nil {
			return err
		}
	}
	if err := c.saveRecord(rec); err != nil {
		return err
	}
	e.Publish(Event{Type: "network", Action: "disconnect", ID: net.ID, Attributes: map[string]string{"container": c.id, "name": net.Name, "type": net.Driver}})
	return nil
}

// toRewire finds and locks a container whose networks may change.
func (e *Engine) toRewire(ref, name string) (*entry, record, network.Network, func(), error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, record{}, network.Network{}, nil, err
	}
	net, err := e.cfg.Networks.Get(name)
	if err != nil {
		return nil, record{}, network.Network{}, nil, err
	}
	c.op.Lock()
	rec := c.record()
	if rec.Spec.Sandbox != "" || mainNetwork(rec) == "" {
		c.op.Unlock()
		return nil, record{}, network.Network{}, nil, errs.New(errs.Conflict, "container %s shares another network namespace and cannot join networks itself", c.id)
	}
	if net.Driver == network.DriverHost || net.Driver == network.DriverNone {
		c.op.Unlock()
		return nil, record{}, network.Network{}, nil, errs.New(errs.Denied, "container cannot be connected to or disconnected from network %s while it runs", net.Name)
	}
	return c, rec, net, c.op.Unlock, nil
}

// mainNetwork is the network that a container was created on; "" when it has no namespace of its own.
func mainNetwork(rec record) string {
	switch mode := rec.Spec.Network.Mode; {
	case mode == "" || mode == "default":
		return DefaultNetwork
	case mode == "host" || len(mode) > 10 && mode[:10] == "container:":
		return ""
	default:
		return mode
	}
}

func hasKey[V any](m map[string]V, k string) bool { _, ok := m[k]; return ok }
