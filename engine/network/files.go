// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// files knows where everything is on disk; docs/formats/engine-network.md describes it.
type files struct {
	dir string // durable
	run string // emptied by a reboot
}

// endpointFile is an endpoint with what only recovery needs.
type endpointFile struct {
	Endpoint
	// Pending is set while the links are being made: what is found pending after a crash was never promised to anyone.
	Pending bool `json:"pending,omitempty"`
}

func (f files) prepare() error {
	for _, d := range []string{f.dir, f.endpointsDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (f files) endpointsDir() string        { return filepath.Join(f.run, "endpoints") }
func (f files) networkDir(id string) string { return filepath.Join(f.dir, id) }
func (f files) cursor(networkID string) string {
	return filepath.Join(f.endpointsDir(), networkID, "cursor")
}
func (f files) endpoint(key endpointKey) string {
	return filepath.Join(f.endpointsDir(), key.network, key.sandbox+".json")
}

func (f files) saveNetwork(net *Network) error {
	if err := os.MkdirAll(f.networkDir(net.ID), 0o700); err != nil {
		return err
	}
	if err := atomicfile.WriteJSON(filepath.Join(f.networkDir(net.ID), "network.json"), net, 0o600); err != nil {
		return err
	}
	return atomicfile.SyncDir(f.dir)
}

// removeNetwork removes the description first: a folder without one is rubbish that loadNetworks clears away.
func (f files) removeNetwork(id string) error {
	err := os.Remove(filepath.Join(f.networkDir(id), "network.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.RemoveAll(f.networkDir(id)), os.RemoveAll(filepath.Join(f.endpointsDir(), id)), atomicfile.SyncDir(f.dir))
}

func (f files) loadNetworks() (map[string]*Network, error) {
	if err := atomicfile.Sweep(f.dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	out := map[string]*Network{}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		path := filepath.Join(f.dir, e.Name(), "network.json")
		net := &Network{}
		err := atomicfile.ReadJSON(path, net)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := os.RemoveAll(filepath.Join(f.dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		case net.Version != 1 || net.ID != e.Name():
			return nil, errs.New(errs.Invalid, "%s: version %d of network %q is not one this Knarr can read", path, net.Version, net.ID)
		}
		if err := atomicfile.Sweep(f.networkDir(net.ID)); err != nil {
			return nil, err
		}
		out[net.ID] = net
	}
	return out, nil
}

func (f files) saveEndpoint(e *Endpoint, pending bool) error {
	path := f.endpoint(endpointKey{e.NetworkID, e.Sandbox})
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	data, err := encode(endpointFile{Endpoint: *e, Pending: pending})
	if err != nil {
		return fmt.Errorf("encode endpoint %s: %w", e.ID, err)
	}
	return atomicfile.WriteVolatile(path, data, 0o600)
}

func (f files) removeEndpoint(key endpointKey) error {
	if err := os.Remove(f.endpoint(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f files) loadEndpoints(networkID string) ([]endpointFile, error) {
	dir := filepath.Join(f.endpointsDir(), networkID)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := atomicfile.Sweep(dir); err != nil {
		return nil, err
	}
	var out []endpointFile
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		var ep endpointFile
		if err := atomicfile.ReadJSON(filepath.Join(dir, e.Name()), &ep); err != nil {
			return nil, err
		}
		if ep.Version != 1 || ep.NetworkID != networkID || ep.Sandbox+".json" != e.Name() {
			return nil, errs.New(errs.Invalid, "%s: version %d is not one this Knarr can read", filepath.Join(dir, e.Name()), ep.Version)
		}
		out = append(out, ep)
	}
	return out, nil
}

// saveCursor remembers the address given last. Losing it only makes an address come back sooner.
func (f files) saveCursor(networkID string, a netip.Addr) error {
	return atomicfile.WriteVolatile(f.cursor(networkID), []byte(a.String()+"\n"), 0o600)
}

func (f files) loadCursor(networkID string) netip.Addr {
	data, _ := os.ReadFile(f.cursor(networkID))
	a, _ := netip.ParseAddr(strings.TrimSpace(string(data)))
	return a
}
