// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/netnstest"
)

// BenchmarkSandbox is what a pod's or container's start and end pay for the network: namespace and endpoint, made and undone.
func BenchmarkSandbox(b *testing.B) {
	netnstest.Need(b)
	dir := b.TempDir()
	// The run folder is a tmpfs on every real machine.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		b.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	n, err := Open(Config{Name: "knb", Dir: filepath.Join(dir, "net"), RunDir: filepath.Join(dir, "run")})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	defer n.Teardown()
	ctx := context.Background()
	for _, s := range []Spec{{Name: "bridged"}, {Name: "routed", Driver: DriverRouted, Subnet: netip.MustParsePrefix("10.42.0.0/16")}} {
		if _, err := n.Ensure(ctx, s); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(dir, "ns", "x")
	b.Run("namespace", func(b *testing.B) {
		for b.Loop() {
			if err := n.NewNamespace(ctx, path); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			n.RemoveNamespace(path)
			b.StartTimer()
		}
	})
	for _, driver := range []string{"bridged", "routed"} {
		for _, ports := range []int{0, 1} {
			b.Run(fmt.Sprintf("attach-%s-ports-%d", driver, ports), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					if err := n.NewNamespace(ctx, path); err != nil {
						b.Fatal(err)
					}
					a := Attachment{Network: driver, Sandbox: "x", NetnsPath: path}
					for range ports {
						a.Ports = append(a.Ports, Port{ContainerPort: 80})
					}
					b.StartTimer()
					if _, err := n.Attach(ctx, a); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := n.DetachAll(ctx, "x"); err != nil {
						b.Fatal(err)
					}
					n.RemoveNamespace(path)
					b.StartTimer()
				}
			})
		}
	}
}
