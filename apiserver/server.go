// SPDX-License-Identifier: Apache-2.0

// Package apiserver is the Kubernetes API over HTTPS, made from kinds: verbs, watch, patches, discovery, tables, proxies.
//
// Below HTTP is package rest: the verbs on objects, working on kinds.Type, store transactions and the cache's snapshots.
// HTTP decodes into it and encodes from it; a component in the same process calls it through As, with the same
// authorisation, admission and validation, and no encoding.
//
// One request: recover, count, bound, authenticate, impersonate, authorise (all in filters.go, in that order), then the
// route. What decides about a request reads one snapshot; bytes that are authorised are the bytes that are executed.
//
// It does not run controllers, and it owns no object but those it must have to serve: the namespaces every cluster has,
// the bootstrap roles, and the Service, Endpoints and EndpointSlice named kubernetes (bootstrap.go).
//
// Goroutines: Run starts the listeners, the cache, the certificate renewal and the upkeep of its own objects, and ends
// them all. Files: <data-dir>/pki (package auth).
package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
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

	ServiceCIDR   netip.Prefix // default 10.43.0.0/16; its first address is the Service kubernetes, its tenth cluster DNS
	NodePorts     PortRange    // default 30000-32767
	ClusterDomain string       // default cluster.local

	// Kubelet finds how to reach the kubelet of a node, for logs, exec, attach, port-forward and proxy. Nil: by the node's
	// address and its daemonEndpoints port, with the API server's client certificate.
	Kubelet func(node string) (Backend, error)
	// OpenAPI serves /openapi/; nil: 404.
	OpenAPI http.Handler
}

// PortRange is First to Last, both included.
type PortRange struct{ First, Last int32 }

// Backend is a server that requests are handed on to: a handler in this process, or an address with its transport.
type Backend struct {
	Handler http.Handler // when set, the rest is not looked at
	URL     *url.URL     // scheme and host
	TLS     *tls.Config  // for https
}

// Server is one API server. Its methods may be called concurrently.
type Server struct {
	cfg Config
	log *slog.Logger
}

// New checks cfg, and opens or makes the certificates and keys. It starts nothing.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	return nil, errors.ErrUnsupported
}

// Run serves until ctx ends; then open requests get a few seconds to finish.
func (s *Server) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Ready is closed when the server answers requests and its own objects exist.
func (s *Server) Ready() <-chan struct{} { return nil }

// Cache is the state the server answers from: components in the same process read it directly.
func (s *Server) Cache() *cache.Cache { return nil }

// As is the API as user sees it, without a socket and without encoding: the same authorisation, admission and validation.
func (s *Server) As(user auth.User) client.Doer { return nil }

// URL is where HTTPS is served as seen from this machine, "https://127.0.0.1:6443"; valid once Ready.
func (s *Server) URL() string { return "" }

// InsecureURL is where plain HTTP is served, "" when it is off; valid once Ready.
func (s *Server) InsecureURL() string { return "" }

// Auth has the certificates and tokens: client certificates for components, ServiceAccount tokens, kubeconfigs.
func (s *Server) Auth() *auth.Authority { return nil }

// Kubeconfig is a kubeconfig for user, with a fresh client certificate; valid once Ready.
func (s *Server) Kubeconfig(user auth.User) ([]byte, error) { return nil, errors.ErrUnsupported }
