// SPDX-License-Identifier: Apache-2.0

// Package kubelet runs the pods that are bound to this node, and reports the node.
//
// One worker a pod: it observes (the object in the cache, sandbox and containers in the runtime), asks lifecycle.Decide what
// to do, does it, asks again until nothing is left, reports lifecycle.Status and sleeps until something happens: the
// object, a ConfigMap or Secret it uses, or a container of it changes, a probe answers, a pull or a hook ends, or the time
// comes that Decide named. Nothing is polled.
//
// The kubelet knows no engine: podruntime.Runtime is all it needs, and its labels are all it remembers, so that every
// start is a recovery: containers found running keep running; what belongs to no pod any more is ended and cleaned up.
//
// It does not: place pods (scheduler), give out addresses (the runtime), forward services (proxy), keep the store.
//
// Goroutines: Run's own (watches, node), one a pod, one a probe, pull or hook; all end with Run. Files, below
// Config.DataDir: pods/<uid>/ (volumes, etc-hosts, termination messages), pods-logs/; docs/formats/kubelet.md has them.
//
//	kubelet.go  what it is made of      worker.go   one pod's loop, observe.go what it looks at
//	watch.go    what wakes workers      apply.go, start.go, image.go, hook.go   the actions
//	probes.go   probes of a pod         sources.go  what volumes and environments are filled from
//	admit.go    what this node refuses  status.go   writing the status        api.go  what the server asks
package kubelet

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/node"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/kubelet/podspec"
	"github.com/knarr/knarr/kubelet/server"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/events"
)

// Config of a Kubelet. NodeName, NodeIPs and DataDir must be set.
type Config struct {
	NodeName string
	NodeIPs  []netip.Addr
	// Network is told once which addresses the node's pods get (spec.podCIDRs); until it returns nil no pod is run and the
	// node is not ready. Nil: nothing is waited for.
	Network func(ctx context.Context, podCIDRs []netip.Prefix) error
	// Follow has the cache hold what a pod refers to, and returns when it does. Nil: the cache holds everything.
	Follow        func(ctx context.Context, pod *corev1.Pod) error
	ClusterDNS    []netip.Addr
	ClusterDomain string // default cluster.local
	DataDir       string
	LogDir        string // pods' logs; default <DataDir>/pods-logs
	SeccompDir    string // localhost profiles; default <DataDir>/seccomp
	ResolvConf    string // default: systemd-resolved's upstream file where there is one, else /etc/resolv.conf
	MaxPods       int    // default 110
	Labels        map[string]string
	Taints        []corev1.Taint
	Version       string // kubeletVersion; default v1.37.2+knarr
	Runtime       string // containerRuntimeVersion; default knarr://0
	Port          int    // of the HTTPS server, reported in the node's status; 0: none
	NoDebugging   bool   // no exec, attach, port-forward, logs and the like
}

// Kubelet is the kubelet of one node. Make it with New.
type Kubelet struct {
	cfg    Config
	rt     podruntime.Runtime
	cache  cache.Reader
	do     client.Doer
	pods   client.Client[corev1.Pod]
	events events.Recorder
	log    *slog.Logger
	node   *node.Reporter
	view   *podspec.Node
	tokens tokens
	http   http.Handler
	pulls  pulls
	probes server.ProbeCounts

	mu       sync.Mutex // guards what follows
	workers  map[types.UID]*worker
	admitted map[types.UID]*corev1.Pod // holds its share of the node
	closed   bool
	running  sync.WaitGroup // workers
}

// New makes a Kubelet; Run starts it.
func New(cfg Config, rt podruntime.Runtime, r cache.Reader, do client.Doer, rec events.Recorder, log *slog.Logger) (*Kubelet, error) {
	if cfg.NodeName == "" || len(cfg.NodeIPs) == 0 || !filepath.IsAbs(cfg.DataDir) {
		return nil, errs.New(errs.Invalid, "the kubelet needs a node name, a node address and an absolute data directory")
	}
	defaults(&cfg)
	k := &Kubelet{
		cfg: cfg, rt: rt, cache: r, do: do, pods: client.For[corev1.Pod](do, "kubelet"), events: rec, log: log,
		workers: map[types.UID]*worker{}, admitted: map[types.UID]*corev1.Pod{},
	}
	k.tokens = tokens{do: do, have: map[tokenKey]token{}}
	facts, err := node.Observe(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("look at the node: %w", err)
	}
	k.node = node.NewReporter(node.Config{
		Name: cfg.NodeName, IPs: cfg.NodeIPs, Labels: cfg.Labels, Taints: cfg.Taints, MaxPods: cfg.MaxPods,
		Version: cfg.Version, Runtime: cfg.Runtime, Port: cfg.Port, DataDir: cfg.DataDir,
	}, facts, rt, r, do, rec, log)
	k.view = k.nodeView(facts)
	k.http = server.New(server.Config{
		NodeName: cfg.NodeName, Started: time.Now(), NodeLogs: "/var/log", Configz: k.configz(), Probes: &k.probes, NoDebugging: cfg.NoDebugging,
	}, k, rt, log)
	return k, nil
}

func defaults(cfg *Config) {
	set := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	set(&cfg.ClusterDomain, "cluster.local")
	set(&cfg.LogDir, filepath.Join(cfg.DataDir, "pods-logs"))
	set(&cfg.SeccompDir, filepath.Join(cfg.DataDir, "seccomp"))
	set(&cfg.Version, "v1.37.2+knarr")
	set(&cfg.Runtime, "knarr://0")
	set(&cfg.ResolvConf, "/etc/resolv.conf")
	if cfg.ResolvConf == "/etc/resolv.conf" {
		// A stub on loopback is of no use in a pod's namespace.
		if _, err := os.Stat("/run/systemd/resolve/resolv.conf"); err == nil {
			cfg.ResolvConf = "/run/systemd/resolve/resolv.conf"
		}
	}
	if cfg.MaxPods == 0 {
		cfg.MaxPods = 110
	}
}

// nodeView is what pods are told of the node.
func (k *Kubelet) nodeView(f node.Facts) *podspec.Node {
	capacity := node.Capacity(f, k.cfg.MaxPods)
	v := &podspec.Node{
		Name: k.cfg.NodeName, Hostname: f.Hostname, ClusterDomain: k.cfg.ClusterDomain, LogDir: k.cfg.LogDir,
		Capacity: capacity, Allocatable: node.Allocatable(capacity),
	}
	for _, ip := range k.cfg.NodeIPs {
		v.IPs = append(v.IPs, ip.String())
	}
	for _, ip := range k.cfg.ClusterDNS {
		v.ClusterDNS = append(v.ClusterDNS, ip.String())
	}
	// Both are read once: a missing file means that the host resolves nothing, which is the pods' lot too.
	if b, err := os.ReadFile(k.cfg.ResolvConf); err == nil {
		v.Resolv = podspec.ParseResolv(b)
	}
	if b, err := os.ReadFile("/etc/hosts"); err == nil {
		v.HostsFile = b
	}
	return v
}

// Run runs pods and reports the node until ctx ends. Containers go on running after it.
func (k *Kubelet) Run(ctx context.Context) error {
	for _, dir := range []string{filepath.Join(k.cfg.DataDir, "pods"), k.cfg.LogDir} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make the kubelet's folders: %w", err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.node.Run(ctx) })
	g.Go(func() error {
		if err := k.awaitNetwork(ctx); err != nil {
			return err
		}
		return k.watchPods(ctx)
	})
	g.Go(func() error { return watchKind[corev1.ConfigMap](ctx, k) })
	g.Go(func() error { return watchKind[corev1.Secret](ctx, k) })
	g.Go(func() error { return k.watchRuntime(ctx) })
	err := g.Wait()
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.running.Wait()
	return err
}

// Handler is the kubelet's HTTP API. It authenticates nobody: hand it to the API server in this process, or put it behind
// TLS that demands the API server's client certificate.
func (k *Kubelet) Handler() http.Handler { return k.http }

// podDir is where a pod's files are.
func (k *Kubelet) podDir(uid types.UID) string {
	return filepath.Join(k.cfg.DataDir, "pods", string(uid))
}
