// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"log/slog"

	"github.com/knarr/knarr/internal/errs"
)

// Config says where an instance keeps its networks.
type Config struct {
	Name   string       // the instance, default knarr: prefixes bridges and the nftables table
	Dir    string       // durable: <Dir>/<id>/network.json
	RunDir string       // emptied by a reboot: endpoints
	Log    *slog.Logger // default: none
}

// Networks is every network of one instance.
type Networks struct{}

var errSoon = errs.New(errs.Unsupported, "networks are being built") // replaced by the next commit

// Open recovers: it reads the files, makes what is missing in the kernel, removes what no file names.
func Open(cfg Config) (*Networks, error) { return nil, errSoon }

// Close stops serving published ports. Links, addresses and rules stay: containers outlive the daemon.
func (n *Networks) Close() error { return nil }

// Run restores the nftables table whenever someone else changes it, until ctx ends.
func (n *Networks) Run(ctx context.Context) error { return errSoon }

// Create makes a network. A name that is taken is errs.Exists.
func (n *Networks) Create(ctx context.Context, s Spec) (Network, error) { return Network{}, errSoon }

// Ensure returns the network of that name, made if it is missing. One that exists with another subnet is
// errs.Conflict; NoMasquerade, MasqueradeOff and Labels are brought to what s says.
func (n *Networks) Ensure(ctx context.Context, s Spec) (Network, error) { return Network{}, errSoon }

// Get finds a network by name, id, or unique prefix of the id.
func (n *Networks) Get(nameOrID string) (Network, error) { return Network{}, errSoon }

// List returns all networks, by name.
func (n *Networks) List() []Network { return nil }

// Remove removes a network without endpoints; one with endpoints is errs.Conflict.
func (n *Networks) Remove(ctx context.Context, nameOrID string) error { return errSoon }

// NewNamespace makes a network namespace with lo up and pins it at path (a bind mount; the folder is made).
func (n *Networks) NewNamespace(ctx context.Context, path string) error { return errSoon }

// RemoveNamespace unpins it. Missing is no error.
func (n *Networks) RemoveNamespace(path string) error { return errSoon }

// Attach gives a sandbox an interface on a network. Attaching again returns the endpoint that is there. A host port that is
// taken is errs.Conflict and nothing is left behind.
func (n *Networks) Attach(ctx context.Context, a Attachment) (Endpoint, error) {
	return Endpoint{}, errSoon
}

// Detach undoes Attach and frees address and ports; the namespace may be gone already. Not attached is no error.
func (n *Networks) Detach(ctx context.Context, network, sandbox string) error { return errSoon }

// DetachAll detaches a sandbox from every network it is on.
func (n *Networks) DetachAll(ctx context.Context, sandbox string) error { return errSoon }

// Endpoints lists all endpoints, or those of one network (name or id).
func (n *Networks) Endpoints(network string) []Endpoint { return nil }
