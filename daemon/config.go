// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// Role is one part of the system that a daemon can play.
type Role string

// The roles. Server and agent are sets of them.
const (
	Engine      Role = "engine"
	APIServer   Role = "apiserver"
	Controllers Role = "controller-manager"
	Scheduler   Role = "scheduler"
	Kubelet     Role = "kubelet"
	Proxy       Role = "proxy" // with DNS
)

// roleSets are the subcommands of knarrd that run a daemon.
var roleSets = []struct {
	name  string
	roles []Role
	short string
}{
	{"server", []Role{Engine, APIServer, Controllers, Scheduler, Kubelet, Proxy}, "engine, control plane and node in one process"},
	{"agent", []Role{Engine, Kubelet, Proxy}, "engine and node, of the cluster at --server"},
	{"engine", []Role{Engine}, "the container engine alone"},
	{"apiserver", []Role{APIServer}, "the API server alone"},
	{"controller-manager", []Role{Controllers}, "the controllers alone, of the cluster at --server"},
	{"scheduler", []Role{Scheduler}, "the scheduler alone, of the cluster at --server"},
	{"kubelet", []Role{Engine, Kubelet}, "the kubelet with its engine, of the cluster at --server"},
	{"proxy", []Role{Proxy}, "service proxy and DNS alone, of the cluster at --server"},
}

// Config is everything a daemon can be told. Flags, the config file and these fields have the same names.
type Config struct {
	Roles []Role `json:"-"`

	Name    string `json:"name"`
	DataDir string `json:"data-dir"`
	RunDir  string `json:"run-dir"`

	NodeName      string       `json:"node-name"`
	NodeIP        netip.Addr   `json:"node-ip"`
	Listen        string       `json:"listen"`
	InsecurePort  int          `json:"insecure-port"`
	ClusterCIDR   netip.Prefix `json:"cluster-cidr"`
	ServiceCIDR   netip.Prefix `json:"service-cidr"`
	ClusterDomain string       `json:"cluster-domain"`
	Server        string       `json:"server"`
	Token         string       `json:"token"`
	Kubeconfig    string       `json:"kubeconfig"`
	ManifestPath  string       `json:"pod-manifest-path"`
	ManifestURL   string       `json:"manifest-url"`

	DebuggingHandlers bool `json:"enable-debugging-handlers"`

	RegistryMirrors    []string `json:"registry-mirror"`
	InsecureRegistries []string `json:"insecure-registry"`

	PublishDefault netip.Addr     `json:"publish-default"`
	DNSListen      netip.AddrPort `json:"dns-listen"`

	Access
	Storage

	LogLevel   string `json:"log-level"`
	ShimBinary string `json:"-"` // knarr-shim beside this program, else on PATH
}

// Default is the configuration of `knarrd server` without flags, but for what only the machine can tell (Complete).
func Default() Config {
	return Config{
		Name: "knarr", DataDir: "/var/lib/knarr", RunDir: "/run/knarr",
		Listen:        "0.0.0.0:6443",
		ClusterCIDR:   netip.MustParsePrefix("10.42.0.0/16"),
		ServiceCIDR:   netip.MustParsePrefix("10.43.0.0/16"),
		ClusterDomain: "cluster.local",
		LogLevel:      "info",

		DebuggingHandlers: true,
		Access:            defaultAccess(),
		Storage:           defaultStorage(),
	}
}

// AddFlags puts c's fields on f, with c's values as defaults.
func (c *Config) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&c.Name, "name", c.Name, "name of this instance; prefixes its bridges, nftables tables and cgroups")
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "folder of all that must survive a reboot")
	f.StringVar(&c.RunDir, "run-dir", c.RunDir, "folder of sockets and of all that a reboot may empty")
	f.StringVar(&c.NodeName, "node-name", c.NodeName, "name of this node (default: the host name)")
	f.TextVar(&c.NodeIP, "node-ip", c.NodeIP, "address of this node (default: that of the default route)")
	f.StringVar(&c.Listen, "listen", c.Listen, "address of the HTTPS API")
	f.IntVar(&c.InsecurePort, "insecure-port", c.InsecurePort, "port of a plain HTTP API without authentication, on loopback only; 0 is off")
	f.TextVar(&c.ClusterCIDR, "cluster-cidr", c.ClusterCIDR, "addresses of pods")
	f.TextVar(&c.ServiceCIDR, "service-cidr", c.ServiceCIDR, "addresses of services")
	f.StringVar(&c.ClusterDomain, "cluster-domain", c.ClusterDomain, "DNS domain of services")
	f.StringVar(&c.Server, "server", c.Server, "URL of the API server to work for")
	f.StringVar(&c.Token, "token", c.Token, "agent: the join token, as `knarr token` prints it; others: a bearer token for --server")
	f.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "server: where the admin kubeconfig is written (default <data-dir>/kubeconfig); others: the credentials for --server")
	f.StringVar(&c.ManifestPath, "pod-manifest-path", c.ManifestPath, "folder or file of static pods")
	f.StringVar(&c.ManifestURL, "manifest-url", c.ManifestURL, "URL of static pods")
	f.BoolVar(&c.DebuggingHandlers, "enable-debugging-handlers", c.DebuggingHandlers, "let the kubelet serve logs, exec, attach, port-forward, run and profiles")
	f.StringSliceVar(&c.RegistryMirrors, "registry-mirror", c.RegistryMirrors, "URLs asked for Docker Hub's images before Docker Hub")
	f.StringSliceVar(&c.InsecureRegistries, "insecure-registry", c.InsecureRegistries, "registries (host[:port], or a range of addresses) that may speak plain http or show any certificate")
	f.TextVar(&c.PublishDefault, "publish-default", c.PublishDefault, "address of this machine on which ports are published that name none, like 127.0.0.1 (default: every address)")
	f.TextVar(&c.DNSListen, "dns-listen", c.DNSListen, "loopback address and port, like 127.0.0.153:53, where this machine can ask for containers by name (default: nowhere)")
	c.Access.addFlags(f)
	c.Storage.addFlags(f)
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
}

// ReadFile sets the fields of c that the YAML file at path names and that no flag in f was given for.
func (c *Config) ReadFile(path string, f *pflag.FlagSet) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	given := map[string]string{}
	f.Visit(func(fl *pflag.Flag) { given[fl.Name] = fl.Value.String() })
	if err := yaml.UnmarshalStrict(bytes.TrimSpace(data), c); err != nil {
		return errs.New(errs.Invalid, "config %s: %w", path, err)
	}
	for name, value := range given { // a flag on the command line wins
		if v, ok := f.Lookup(name).Value.(pflag.SliceValue); ok {
			if err := v.Replace(strings.Split(strings.Trim(value, "[]"), ",")); err != nil {
				return err
			}
			continue
		}
		if err := f.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,9}$`)

// Complete fills in what only this machine can tell, and then lists every fault of c.
func (c *Config) Complete() error {
	if c.NodeName == "" {
		h, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("node name: %w", err)
		}
		c.NodeName = strings.ToLower(h)
	}
	if c.Kubeconfig == "" && c.Has(APIServer) {
		c.Kubeconfig = filepath.Join(c.DataDir, "kubeconfig")
	}
	if !c.NodeIP.IsValid() && (c.Has(Kubelet) || c.Has(APIServer) || c.Has(Proxy)) {
		ip, err := defaultAddress()
		if err != nil {
			return fmt.Errorf("find this node's address (or say --node-ip): %w", err)
		}
		c.NodeIP = ip
	}
	if c.ShimBinary == "" && c.Has(Engine) {
		p, err := findShim()
		if err != nil {
			return err
		}
		c.ShimBinary = p
	}
	return c.validate()
}

func (c *Config) validate() error {
	var faults []string
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if !nameForm.MatchString(c.Name) {
		bad("--name %q: want 1 to 10 of a-z, 0-9 and -, a letter first (it becomes part of link names)", c.Name)
	}
	for _, d := range []struct{ flag, path string }{{"--data-dir", c.DataDir}, {"--run-dir", c.RunDir}} {
		if !filepath.IsAbs(d.path) {
			bad("%s %q: want an absolute path", d.flag, d.path)
		}
	}
	if len(c.RunDir) > 60 {
		bad("--run-dir %q: %d bytes; sockets below it can be at most 108 bytes long, so want 60 at most", c.RunDir, len(c.RunDir))
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("--listen %q: want ADDRESS:PORT", c.Listen)
	}
	if c.InsecurePort < -1 || c.InsecurePort > 65535 {
		bad("--insecure-port %d: want 0 to 65535", c.InsecurePort)
	}
	if c.ClusterCIDR.Overlaps(c.ServiceCIDR) {
		bad("--cluster-cidr %s and --service-cidr %s overlap", c.ClusterCIDR, c.ServiceCIDR)
	}
	if c.ManifestPath != "" || c.ManifestURL != "" {
		bad("--pod-manifest-path, --manifest-url: static pods are not supported yet; apply the manifest with kubectl")
	}
	if c.Server == "" && !c.Has(APIServer) && slices.ContainsFunc(c.Roles, func(r Role) bool { return r != Engine }) {
		bad("--server: want the URL of the API server")
	}
	c.Storage.faults(bad)
	if err := c.Registries().Validate(); err != nil {
		bad("%v", err)
	}
	if c.Server != "" && c.Has(APIServer) {
		bad("--server %s: this daemon is a server itself; to join that one, run knarrd agent", c.Server)
	}
	if c.DNSListen.IsValid() && (!c.DNSListen.Addr().IsLoopback() || c.DNSListen.Port() == 0) {
		bad("--dns-listen %s: want a loopback address and a port, as everybody who reaches it may ask", c.DNSListen)
	}
	if len(faults) > 0 {
		return errs.New(errs.Invalid, "%s", strings.Join(faults, "\n"))
	}
	return nil
}

// Registries is how the engine reaches registries. Certificates are looked for in our own folder and in Docker's.
func (c *Config) Registries() image.Registries {
	return image.Registries{
		Mirrors: c.RegistryMirrors, Insecure: c.InsecureRegistries,
		CertDirs: []string{"/etc/knarr/certs.d", "/etc/docker/certs.d"},
	}
}

// Has says whether the daemon plays a role.
func (c *Config) Has(r Role) bool { return slices.Contains(c.Roles, r) }

// joins: this daemon is a member of the cluster at --server by the join token, not by a kubeconfig.
func (c *Config) joins() bool { return c.Server != "" && c.Kubeconfig == "" && c.Has(Kubelet) }

// ClusterDNS is the tenth service address: where pods ask for names.
func (c *Config) ClusterDNS() netip.Addr { return nth(c.ServiceCIDR, 10) }

func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// EngineSocket is where the Docker API is served.
func (c *Config) EngineSocket() string { return filepath.Join(c.RunDir, "engine.sock") }

// CRISocket is where a kubelet of others finds this runtime.
func (c *Config) CRISocket() string { return filepath.Join(c.RunDir, "cri.sock") }
