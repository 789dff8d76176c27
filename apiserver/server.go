// SPDX-License-Identifier: Apache-2.0

// Package apiserver is the Kubernetes API over HTTPS, made from kinds: verbs, watch, patches, discovery, tables, proxies.
//
// Below HTTP is package rest: the verbs on objects, working on kinds.Type, store transactions and the cache's snapshots.
// HTTP decodes into it and encodes from it; a component in the same process calls it through As, with the same
// authorisation, admission and validation, and no encoding.
//
// One request: recover, count, authenticate, impersonate, bound, authorise (all in filters.go, in that order), then the
// route. What decides about a request reads one snapshot; bytes that are authorised are the bytes that are executed.
//
// It does not run controllers, and it owns no object but those it must have to serve: the namespaces every cluster has,
// the bootstrap roles, and the Service, Endpoints and EndpointSlice named kubernetes (bootstrap.go).
//
// Goroutines: Run starts the listeners, the cache and the upkeep of its own objects, and ends them all.
// Files: <data-dir>/pki (package auth).
package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/apiserver/aggregate"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/crd"
	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/apiserver/webhook"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/events"
	"github.com/knarr/knarr/state/journal"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/store"
)

// Config says what a Server serves and where. Store and DataDir must be set; other zero values mean the defaults named.
type Config struct {
	Store   store.Store
	DataDir string // certificates and keys live in pki below it

	Listen       string // host:port for HTTPS, default 0.0.0.0:6443; port 0 picks a free one
	InsecurePort int    // plain HTTP as cluster admin, on 127.0.0.1 only; 0: off, -1: a free port
	AdvertiseIP  netip.Addr
	Names        []string // more names and addresses for the serving certificate

	ClusterCIDR   netip.Prefix // addresses of pods, as joining nodes are told; default 10.42.0.0/16
	ServiceCIDR   netip.Prefix // default 10.43.0.0/16; its first address is the Service kubernetes, its tenth cluster DNS
	NodePorts     PortRange    // default 30000-32767
	ClusterDomain string       // default cluster.local

	// Kubelet finds how to reach the kubelet of a node, for logs, exec, attach, port-forward and proxy. Nil: by the node's
	// address and its daemonEndpoints port, with the API server's client certificate.
	Kubelet func(node string) (Backend, error)
	// Auth are the sources of users beside client certificates and ServiceAccount tokens.
	Auth auth.Options
	// TokenWebhook and AuthorizationWebhook are kubeconfig files that name servers to ask who a token is, and who may do
	// what nobody here allows; "": none.
	TokenWebhook, AuthorizationWebhook string
	// Aggregated finds where the Service of an aggregated API server is served, host:port. Nil: at one of its endpoints.
	Aggregated func(namespace, service string, port int32) (string, error)
	// History is how long it is remembered who wrote what; 0: a day.
	History time.Duration
	// OpenAPI serves /openapi/; nil: the documents of all kinds.
	OpenAPI http.Handler
}

// PortRange is First to Last, both included.
type PortRange struct{ First, Last int32 }

// Backend is a server that requests are handed on to: a handler in this process, or an address with its TLS configuration.
type Backend struct {
	Handler http.Handler // when set, the rest is not looked at
	URL     *url.URL     // scheme and host
	TLS     *tls.Config  // for https

	configured bool // by Config: its address is trusted, also when it is loopback
}

// Server is one API server. Its methods may be called concurrently.
type Server struct {
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	authority *auth.Authority
	cache     *cache.Cache
	core      *rest.Core
	authn     *auth.Authenticator
	authz     *auth.Authorizer
	described *described
	webhooks  *webhook.Client
	others    *aggregate.Servers
	metrics   *metrics
	flight    *flight
	events    *events.Sink
	journal   *journal.Journal
	ready     chan struct{}
	addr      atomic.Pointer[listening]
}

// listening is where the server is reached, known once the listeners are open.
type listening struct{ secure, insecure string }

// New checks cfg, and opens or makes the certificates and keys. It starts nothing.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("configure API server: %w", err)
	}
	now := time.Now
	names := cfg.servingNames()
	authority, err := auth.Open(filepath.Join(cfg.DataDir, "pki"), names, "https://kubernetes.default.svc."+cfg.ClusterDomain, now)
	if err != nil {
		return nil, err
	}
	if _, err := authority.JoinToken(); err != nil { // made now, for `knarr token` to find
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, now: now, authority: authority, ready: make(chan struct{})}
	if s.journal, err = journal.Open(filepath.Join(cfg.DataDir, "history"), cfg.History); err != nil {
		return nil, err
	}
	s.webhooks = webhook.New(s.webhookAddress)
	s.cache = cache.New(cache.FromStore(cfg.Store, kinds.All, crd.Definer(s.convert), log), kinds.All, cache.Options{}, log)
	s.authz = &auth.Authorizer{State: s.cache}
	if err := s.openAuth(cfg); err != nil {
		return nil, err
	}
	s.events = events.New(s.As(self()), log)
	s.core = rest.New(rest.Config{
		Store: cfg.Store, Cache: s.cache, Steps: admission.Steps(admission.Config{
			Authorizer: s.authz, State: s.cache, Now: now, Webhooks: s.webhooks,
			Tell: func(about kinds.Object, reason, message string) {
				s.events.For("apiserver", "").Event(about, corev1.EventTypeWarning, reason, message)
			},
		}), Tokens: authority, Now: now, Journal: s.journal,
		Services: rest.Services{CIDR: cfg.ServiceCIDR, FirstPort: cfg.NodePorts.First, LastPort: cfg.NodePorts.Last},
	}, log)
	s.described = newDescribed(cfg.OpenAPI)
	s.others = s.newAggregated()
	s.metrics = newMetrics(s.cache, cfg.Store)
	s.flight = newFlight()
	return s, nil
}

func (c *Config) complete() error {
	if c.Store == nil || c.DataDir == "" {
		return errs.New(errs.Invalid, "a store and a data directory are needed")
	}
	if c.Listen == "" {
		c.Listen = "0.0.0.0:6443"
	}
	if !c.ClusterCIDR.IsValid() {
		c.ClusterCIDR = netip.MustParsePrefix("10.42.0.0/16")
	}
	if !c.ServiceCIDR.IsValid() {
		c.ServiceCIDR = netip.MustParsePrefix("10.43.0.0/16")
	}
	if c.ServiceCIDR.Addr().BitLen()-c.ServiceCIDR.Bits() < 5 {
		return errs.New(errs.Invalid, "the service range %s is smaller than 32 addresses", c.ServiceCIDR)
	}
	if c.NodePorts == (PortRange{}) {
		c.NodePorts = PortRange{30000, 32767}
	}
	if c.NodePorts.First < 1 || c.NodePorts.Last > 65535 || c.NodePorts.First > c.NodePorts.Last {
		return errs.New(errs.Invalid, "the node port range %d-%d is empty or out of bounds", c.NodePorts.First, c.NodePorts.Last)
	}
	if c.History <= 0 {
		c.History = 24 * time.Hour
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if !c.AdvertiseIP.IsValid() {
		c.AdvertiseIP = ownAddress()
	}
	return nil
}

// ownAddress is the first address of this machine that others can reach, or loopback.
func ownAddress() netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
				return p.Addr()
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

func (c *Config) serviceAddress(n int) netip.Addr {
	return rest.Services{CIDR: c.ServiceCIDR}.Address(n)
}

func (c *Config) servingNames() []string {
	names := []string{
		"localhost", "127.0.0.1", "::1", c.AdvertiseIP.String(), c.serviceAddress(1).String(),
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + c.ClusterDomain,
	}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && host != "" && host != "0.0.0.0" && host != "::" {
		names = append(names, host)
	}
	return append(names, c.Names...)
}

// Run serves until ctx ends; then open requests get a few seconds to finish.
func (s *Server) Run(ctx context.Context) error {
	secure, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("serve the API: %w", err)
	}
	defer secure.Close()
	at := &listening{secure: secure.Addr().String()}
	var insecure net.Listener
	if port := s.cfg.InsecurePort; port != 0 {
		insecure, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(max(port, 0))))
		if err != nil {
			return fmt.Errorf("serve the API without TLS: %w", err)
		}
		defer insecure.Close()
		at.insecure = insecure.Addr().String()
	}
	s.addr.Store(at)

	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return s.cache.Run(running) })
	g.Go(func() error {
		return s.serve(running, s.httpServer(s.secure()), tls.NewListener(secure, s.tlsConfig()))
	})
	if insecure != nil {
		g.Go(func() error { return s.serve(running, s.httpServer(s.insecure()), insecure) })
	}
	g.Go(func() error { return s.upkeep(running) })
	g.Go(func() error { return s.events.Run(running) })
	quiet := func(string) reconcile.Recorder { return silent{} }
	g.Go(func() error { return s.runAggregated(running, s.others.Run) })
	g.Go(func() error {
		return s.runAggregated(running, reconcile.New(s.cache, s.As(self()), quiet, reconcile.Options{}, s.log, aggregate.Locals()).Run)
	})
	// Definitions are the server's own: without their names and conditions it serves nothing of what they define.
	g.Go(func() error {
		return reconcile.New(s.cache, s.As(self()), quiet, reconcile.Options{}, s.log, crd.Controller()).Run(running)
	})
	err = errors.Join(g.Wait(), s.journal.Close())
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		GetCertificate: s.authority.Serving,
		// Verified by auth, so that a bad certificate is answered with a readable 401.
		ClientAuth: tls.RequestClientCert,
		ClientCAs:  s.authority.Pool(),
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
	}
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext:       func(ctx context.Context, _ net.Conn) context.Context { return auth.ConnContext(ctx) },
	}
}

// drain is how long open requests may go on after the end of Run's context; streams end at once.
const drain = 3 * time.Second

func (s *Server) serve(ctx context.Context, h *http.Server, l net.Listener) error {
	open := &open{idle: make(chan struct{}, 1)}
	h.Handler = open.counted(h.Handler)
	// Requests are not cut by the end of ctx but told of it.
	base := context.WithValue(context.WithoutCancel(ctx), endingKey{}, ctx.Done())
	h.BaseContext = func(net.Listener) context.Context { return base }
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		err := l.Close()
		late := time.NewTimer(drain)
		defer late.Stop()
		for open.n.Load() > 0 {
			select {
			case <-open.idle:
				continue
			case <-late.C:
			}
			break
		}
		stopped <- errors.Join(err, h.Close())
	}()
	err := h.Serve(l)
	if ctx.Err() == nil {
		return fmt.Errorf("serve the API: %w", err)
	}
	<-stopped // what closing says of what ends anyway is of no use to anybody
	return ctx.Err()
}

// open counts the requests that are being answered.
type open struct {
	n    atomic.Int64
	idle chan struct{} // told when n comes to 0
}

func (o *open) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.n.Add(1)
		defer func() {
			if o.n.Add(-1) == 0 {
				select {
				case o.idle <- struct{}{}:
				default:
				}
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// endingKey is where a request finds the channel that is closed when the server begins to end.
type endingKey struct{}

// untilEnd is ctx, cancelled also when the server begins to end.
func untilEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	ending, ok := ctx.Value(endingKey{}).(<-chan struct{})
	if !ok {
		return ctx, cancel
	}
	go func() {
		select {
		case <-ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// Ready is closed when the server answers requests and its own objects exist.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Cache is the state the server answers from: components in the same process read it directly.
func (s *Server) Cache() *cache.Cache { return s.cache }

// Auth has the certificates and tokens: client certificates for components, ServiceAccount tokens, kubeconfigs.
func (s *Server) Auth() *auth.Authority { return s.authority }

// URL is where HTTPS is served as seen from this machine, "https://127.0.0.1:6443"; "" before Run has opened the port.
func (s *Server) URL() string {
	if at := s.addr.Load(); at != nil {
		return "https://" + local(at.secure)
	}
	return ""
}

// InsecureURL is where plain HTTP is served, "" when it is off; known when URL is.
func (s *Server) InsecureURL() string {
	if at := s.addr.Load(); at != nil && at.insecure != "" {
		return "http://" + at.insecure
	}
	return ""
}

// local replaces "all addresses" by loopback.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// Kubeconfig is a kubeconfig for user, with a client certificate; the address is known once Ready.
func (s *Server) Kubeconfig(user auth.User) ([]byte, error) {
	if s.URL() == "" {
		return nil, errs.New(errs.Unavailable, "the API server is not running yet")
	}
	return s.authority.Kubeconfig(s.URL(), "knarr", user)
}

// newest waits until the cache has all that the store has now, but not for long.
func (s *Server) newest(ctx context.Context) (*cache.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, newestWithin)
	defer cancel()
	_, _, rev, err := s.cfg.Store.Get(ctx, "/registry/")
	if err != nil {
		return nil, err
	}
	return s.cache.Wait(ctx, rev)
}

const newestWithin = 2 * time.Second
