// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/onlyone"
)

// defaultAddress is the address this machine uses towards others: the source the kernel picks for the default route, else
// the first global address, else loopback. Connecting a datagram socket sends nothing.
func defaultAddress() (netip.Addr, error) {
	if c, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		defer c.Close()
		if ap, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
			return ap.Addr(), nil
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr(), nil
		}
	}
	return netip.MustParseAddr("127.0.0.1"), nil
}

// findShim looks for knarr-shim beside this program, then on PATH.
func findShim() (string, error) {
	if self, err := os.Executable(); err == nil {
		p := filepath.Join(filepath.Dir(self), "knarr-shim")
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	p, err := exec.LookPath("knarr-shim")
	if err != nil {
		return "", errs.New(errs.NotFound, "knarr-shim is neither beside knarrd nor on PATH; run make build")
	}
	return filepath.Abs(p)
}

// lock takes the instance's lock for this process, so that two daemons never share a run folder. It is released by close
// or death.
func lock(runDir string) (*os.File, error) {
	f, err := onlyone.Take(filepath.Join(runDir, "knarrd.pid"))
	if errors.Is(err, onlyone.ErrTaken) {
		return nil, errs.New(errs.Conflict, "another knarrd runs with --run-dir %s; stop it first, or use another --name, --run-dir and --data-dir", runDir)
	}
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
