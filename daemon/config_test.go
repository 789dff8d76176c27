// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// complete is a server's configuration in which everything is said, so that nothing depends on the machine.
func complete() Config {
	c := Default()
	c.Roles, c.NodeName, c.NodeIP, c.ShimBinary = roleSets[0].roles, "n", netip.MustParseAddr("192.0.2.1"), "/knarr-shim"
	return c
}

func TestCompleteNamesEveryFault(t *testing.T) {
	c := complete()
	if err := c.Complete(); err != nil {
		t.Fatalf("the default configuration: %v", err)
	}
	if c.Kubeconfig != "/var/lib/knarr/kubeconfig" {
		t.Errorf("kubeconfig is %q", c.Kubeconfig)
	}
	for flag, spoil := range map[string]func(*Config){
		"--name":              func(c *Config) { c.Name = "Not_A_Name" },
		"--data-dir":          func(c *Config) { c.DataDir = "relative" },
		"--run-dir":           func(c *Config) { c.RunDir = "/" + strings.Repeat("x", 80) },
		"--listen":            func(c *Config) { c.Listen = "6443" },
		"--insecure-port":     func(c *Config) { c.InsecurePort = 70000 },
		"--cluster-cidr":      func(c *Config) { c.ServiceCIDR = c.ClusterCIDR },
		"--pod-manifest-path": func(c *Config) { c.ManifestPath = "/etc/pods" },
		"--server":            func(c *Config) { c.Roles = []Role{Scheduler} },
	} {
		c := complete()
		spoil(&c)
		if err := c.Complete(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: the error is %v", flag, err)
		}
	}
	c = complete()
	c.Name, c.Listen = "?", "?"
	if err := c.Complete(); err == nil || !strings.Contains(err.Error(), "--name") || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("two faults, but only: %v", err)
	}
}

func TestFlagsWinOverTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("name: fromfile\nlisten: 127.0.0.1:1\nservice-cidr: 10.99.0.0/16\netcd-endpoints: [http://a:1, http://b:2]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Default()
	f := pflag.NewFlagSet("t", pflag.ContinueOnError)
	c.AddFlags(f)
	if err := f.Parse([]string{"--listen", "127.0.0.1:2"}); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadFile(file, f); err != nil {
		t.Fatal(err)
	}
	if c.Name != "fromfile" || c.Listen != "127.0.0.1:2" || c.ServiceCIDR.String() != "10.99.0.0/16" || len(c.EtcdEndpoints) != 2 {
		t.Errorf("got %+v", c)
	}
	if err := os.WriteFile(file, []byte("lisen: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadFile(file, f); err == nil || !strings.Contains(err.Error(), "lisen") {
		t.Errorf("a misspelt name: %v", err)
	}
}

func TestClusterAddresses(t *testing.T) {
	c := Default()
	if got := c.ClusterDNS().String(); got != "10.43.0.10" {
		t.Errorf("cluster DNS is %s", got)
	}
}
