// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/apiserver/aggregate"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/cache"
)

// newAggregated makes what follows other API servers.
func (s *Server) newAggregated() *aggregate.Servers {
	resolve, dial := s.aggregatedAddress, dialProxyable
	if s.cfg.Aggregated != nil {
		resolve, dial = s.cfg.Aggregated, (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	return aggregate.New(aggregate.Config{
		State: s.cache, API: s.As(self()), Resolve: resolve, Dial: dial, Now: s.now, Log: s.log,
		Certificate: func() (*tls.Certificate, error) {
			pair, err := s.authority.FrontProxy()
			if err != nil {
				return nil, err
			}
			return pair.TLS()
		},
	})
}

// aggregatedAddress is where an API server's Service is served: a ready endpoint, or the name that stands for one.
func (s *Server) aggregatedAddress(namespace, name string, port int32) (string, error) {
	service, ok := cache.Get[corev1.Service](s.cache.Snapshot(), namespace, name)
	if ok && service.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(service.Spec.ExternalName, strconv.Itoa(int(port))), nil
	}
	return s.webhookAddress(namespace, name, port)
}

// serveAggregated hands an authorised request on to the API server that answers for its group and version, with the word
// of this server for who asks. The client's own credentials are never passed on, and no redirect is: it would lead the
// client, with its credentials, to wherever that server likes.
func (s *Server) serveAggregated(w http.ResponseWriter, r *http.Request, to *aggregate.Server, u auth.User) error {
	if !to.Available() {
		return apierrors.NewServiceUnavailable("service unavailable")
	}
	target := &url.URL{Scheme: "https", Host: to.Host(), Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	s.passOn(w, r, to, u, target)
	return nil
}

func (s *Server) passOn(w http.ResponseWriter, r *http.Request, to *aggregate.Server, u auth.User, target *url.URL) {
	p := httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL, pr.Out.Host = target, target.Host
			stripped(pr.Out.Header)
			pr.SetXForwarded()
			auth.SetRemote(pr.Out.Header, u)
		},
		Transport:      to.Transport(r.Header.Get("Upgrade") != ""),
		FlushInterval:  -1,
		ModifyResponse: noRedirect,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var has apierrors.APIStatus
			if !errors.As(err, &has) {
				err = errs.New(errs.Unavailable, "error trying to reach service: %w", err)
			}
			sendError(w, r, err)
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	p.ServeHTTP(w, r)
}

func noRedirect(res *http.Response) error {
	if res.StatusCode < 300 || res.StatusCode > 399 || res.StatusCode == http.StatusNotModified {
		return nil
	}
	return apierrors.NewGenericServerResponse(http.StatusBadGateway, "", schema.GroupResource{}, "",
		fmt.Sprintf("the backend attempted to redirect this request (%d), which is not permitted", res.StatusCode), 0, true)
}

// serveDocument hands a request for the OpenAPI document of an aggregated group and version on. Its hash is left out: a
// server that has a newer one would redirect.
func (s *Server) serveDocument(w http.ResponseWriter, r *http.Request, to *aggregate.Server, u auth.User) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return apierrors.NewMethodNotSupported(schema.GroupResource{}, r.Method)
	}
	if !to.Available() {
		return apierrors.NewServiceUnavailable("service unavailable")
	}
	s.passOn(w, r, to, u, &url.URL{Scheme: "https", Host: to.Host(), Path: r.URL.Path})
	return nil
}

// lasting reports whether a request to an aggregated server may go on for as long as it likes.
func lasting(r *http.Request, to *aggregate.Server) bool {
	return to != nil && r.Header.Get("Upgrade") != ""
}

// runAggregated follows the servers once this one is ready: their registrations can wait for that.
func (s *Server) runAggregated(ctx context.Context, run func(context.Context) error) error {
	select {
	case <-s.ready:
		return run(ctx)
	case <-ctx.Done():
		return nil
	}
}
