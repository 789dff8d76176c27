// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Intact compares the kernel's table with the last applied one by what a flush or an edit changes: which chains and sets
// there are, how many rules each chain has, and which elements each set that is not dynamic has.
func (o *Owner) Intact() (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.applied == nil {
		return true, nil
	}
	conn, err := o.dial()
	if err != nil {
		return false, err
	}
	t := &nftables.Table{Name: o.name, Family: o.family}
	chains, err := conn.ListChainsOfTableFamily(o.family)
	if err != nil {
		return false, fmt.Errorf("list nftables chains: %w", err)
	}
	found := map[string]bool{}
	for _, c := range chains {
		if c.Table.Name == o.name {
			found[c.Name] = true
		}
	}
	for _, c := range o.applied.Chains {
		if !found[c.Name] {
			return false, nil
		}
		rules, err := conn.GetRules(t, &nftables.Chain{Name: c.Name, Table: t})
		if errors.Is(err, unix.ENOENT) || (err == nil && len(rules) != len(c.Rules)) {
			return false, nil
		} else if err != nil {
			return false, fmt.Errorf("list rules of %s: %w", c.Name, err)
		}
		delete(found, c.Name)
	}
	if len(found) > 0 {
		return false, nil
	}
	return o.setsIntact(conn, t)
}

func (o *Owner) setsIntact(conn *nftables.Conn, t *nftables.Table) (bool, error) {
	for _, s := range o.applied.Sets {
		if s.Dynamic {
			continue
		}
		elems, err := conn.GetSetElements(&nftables.Set{Table: t, Name: s.Name})
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		} else if err != nil {
			return false, fmt.Errorf("list elements of %s: %w", s.Name, err)
		}
		want := setElements(dedupe(s.Elements))
		if len(elems) != len(want) {
			return false, nil
		}
		have := make(map[string]bool, len(elems))
		for _, e := range elems {
			have[string(e.Key)] = true
		}
		for _, e := range want {
			if !have[string(e.Key)] {
				return false, nil
			}
		}
	}
	return true, nil
}

func dedupe(list []Element) []Element {
	_, add := diffElements(&Set{}, &Set{Elements: list})
	return add
}

// settle gathers the notices of one transaction, ours included, before the table is read back.
const settle = 20 * time.Millisecond

// Guard restores the table whenever somebody else has changed it, until ctx ends.
func (o *Owner) Guard(ctx context.Context, log *slog.Logger) error {
	notices, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	defer notices.Close()
	if err := notices.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	touched := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() { done <- o.read(notices, touched) }()
	defer func() { notices.Close(); <-done }()

	// Whatever happened between the last Apply and the subscription above is found by looking once.
	touched <- struct{}{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-done:
			done <- nil
			return fmt.Errorf("watch nftables: %w", err)
		case <-touched:
		}
		timer := time.NewTimer(settle)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		o.restore(log)
	}
}

func (o *Owner) restore(log *slog.Logger) {
	ok, err := o.Intact()
	if err == nil && !ok {
		log.Warn("somebody changed our nftables table; restoring it", "table", o.name)
		err = o.Reassert()
	}
	if err != nil {
		log.Error("nftables table cannot be restored", "table", o.name, "err", err)
	}
}

// read turns deletions in our table into one pending token, until the socket is closed.
func (o *Owner) read(c *netlink.Conn, touched chan<- struct{}) error {
	for {
		msgs, err := c.Receive()
		lost := errors.Is(err, unix.ENOBUFS) // more notices than the socket holds: some are lost, so look
		if err != nil && !lost {
			return err
		}
		msgs = slices.DeleteFunc(msgs, func(m netlink.Message) bool { return o.ports.has(m.Header.PID) })
		if lost || concerns(msgs, o.name) {
			select {
			case touched <- struct{}{}:
			default:
			}
		}
	}
}

// concerns says whether a notice tells of something deleted from, or of a rule added to, the table. In every message of
// this family attribute 1 is the table's name.
func concerns(msgs []netlink.Message, table string) bool {
	for _, m := range msgs {
		switch m.Header.Type & 0xff {
		case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM,
			unix.NFT_MSG_NEWRULE, unix.NFT_MSG_NEWCHAIN:
		default:
			continue
		}
		if len(m.Data) < 4 {
			continue
		}
		attrs, err := netlink.UnmarshalAttributes(m.Data[4:])
		if err != nil {
			continue
		}
		for _, a := range attrs {
			if a.Type == 1 && bytes.Equal(bytes.TrimRight(a.Data, "\x00"), []byte(table)) {
				return true
			}
		}
	}
	return false
}
