// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// kubelet finds the kubelet of a node.
func (s *Server) kubelet(node string) (Backend, error) {
	if s.cfg.Kubelet != nil {
		b, err := s.cfg.Kubelet(node)
		b.configured = true
		if err == nil || !errors.Is(err, errs.NotFound) {
			return b, err
		}
	}
	n, ok := cache.Get[corev1.Node](s.cache.Snapshot(), "", node)
	if !ok {
		return Backend{}, apierrors.NewNotFound(kinds.For[corev1.Node]().Resource().GroupResource(), node)
	}
	port := kubeletPort(n)
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range n.Status.Addresses {
			if a.Type != want {
				continue
			}
			host, err := joinPort(a.Address, strconv.Itoa(int(port)))
			if err != nil {
				return Backend{}, err
			}
			tlsConfig, err := s.kubeletTLS(a.Address)
			return Backend{URL: &url.URL{Scheme: "https", Host: host}, TLS: tlsConfig}, err
		}
	}
	return Backend{}, errs.New(errs.Unavailable, "node %s has no address", node)
}

// kubeletTLS trusts only kubelets with a certificate of this cluster, and shows who we are.
func (s *Server) kubeletTLS(name string) (*tls.Config, error) {
	pair, err := s.authority.Client(auth.User{Name: auth.KubeletClient, Groups: []string{auth.Masters}})
	if err != nil {
		return nil, err
	}
	cert, err := pair.TLS()
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: s.authority.Pool(), Certificates: []tls.Certificate{*cert}, ServerName: name, MinVersion: tls.VersionTLS12}, nil
}

func joinPort(ip, port string) (string, error) {
	if err := proxyable(ip); err != nil {
		return "", err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", apierrors.NewBadRequest(fmt.Sprintf("port %q is no port number", port))
	}
	return net.JoinHostPort(ip, port), nil
}

// proxyable refuses addresses that mean this machine or its link: an address in an object is a stranger's word.
func proxyable(ip string) error {
	a, err := netip.ParseAddr(ip)
	if err != nil || !a.Unmap().IsGlobalUnicast() {
		return apierrors.NewBadRequest("address not allowed")
	}
	return nil
}

// dialProxyable checks the address once more where it cannot change any more: at the socket.
func dialProxyable(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		return proxyable(host)
	}}
	return d.DialContext(ctx, network, addr)
}

// toKubelet hands a request on to a kubelet's path and turns the kubelet's refusals into Status errors.
func (s *Server) toKubelet(w http.ResponseWriter, r *http.Request, c call, node, path string, q url.Values) error {
	b, err := s.kubelet(node)
	if err != nil {
		return err
	}
	return s.handOn(w, r, b, path, q, answer{call: c})
}

// answer says what to do with a backend's answer.
type answer struct {
	call
	as   string // the path under which the client sees the backend; "" for kubelets' own paths
	host string // the backend's own host:port
}

// proxied keeps the backend's answer as it is; only where it redirects to a path of its own, that is put below ours.
func proxied(c call, host string) answer {
	prefix := "/api/v1/"
	if c.namespace != "" && c.t.Plural != "nodes" {
		prefix += "namespaces/" + c.namespace + "/"
	}
	return answer{call: c, as: prefix + c.t.Plural + "/" + c.name + "/proxy", host: host}
}

// handOn sends r to path at b and its answer to the client. An upgrade that succeeds joins the two connections; one that
// does not is an answer like any other, and the connection to the backend is closed with it. Redirects are not followed.
func (s *Server) handOn(w http.ResponseWriter, r *http.Request, b Backend, path string, q url.Values, a answer) error {
	if b.Handler != nil {
		out := r.Clone(r.Context())
		out.URL = &url.URL{Path: path, RawQuery: q.Encode()}
		out.RequestURI = out.URL.RequestURI()
		stripped(out.Header)
		t := &translated{w: w, r: r, a: a}
		b.Handler.ServeHTTP(t, out)
		t.finish()
		return nil
	}
	dial := dialProxyable
	if b.configured {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	p := httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = &url.URL{Scheme: b.URL.Scheme, Host: b.URL.Host, Path: path, RawQuery: q.Encode()}
			pr.Out.Host = b.URL.Host
			stripped(pr.Out.Header)
			if a.as != "" && strings.Contains(pr.Out.Header.Get("Accept"), "text/html") {
				pr.Out.Header.Del("Accept-Encoding") // compressed pages could not be rewritten
			}
			pr.SetXForwarded()
			if a.as != "" {
				pr.Out.Header.Set("X-Forwarded-Uri", a.as+path)
			}
		},
		// One connection for one request: none is left over that could carry somebody else's.
		Transport:      &http.Transport{TLSClientConfig: b.TLS, DialContext: dial, DisableKeepAlives: true},
		FlushInterval:  -1,
		ModifyResponse: func(res *http.Response) error { return a.look(res) },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var has apierrors.APIStatus
			if !errors.As(err, &has) && errs.Kind(err) == nil {
				err = errs.New(errs.Unavailable, "error dialing backend: %w", err)
			}
			sendError(w, r, err)
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	p.ServeHTTP(w, r)
	return nil
}

// stripped removes what was said to us and is not for the backend.
func stripped(h http.Header) {
	h.Del("Authorization")
	for k := range h {
		if strings.HasPrefix(k, "Impersonate-") || strings.HasPrefix(k, "X-Remote-") {
			delete(h, k)
		}
	}
}

// maxRefusal is how much of a refusal's text is passed on.
const maxRefusal = 10 << 10

// look turns a kubelet's refusal into an error; what a proxied server says is left alone.
func (a answer) look(res *http.Response) error {
	if a.as != "" {
		if to := below(a.as, a.host, res.Header.Get("Location")); to != "" {
			res.Header.Set("Location", to)
		}
		rewriteHTML(res, a.as, a.host)
		return nil
	}
	if res.StatusCode < 300 {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	if err != nil {
		return err
	}
	return a.refusal(res.StatusCode, text)
}

func (a answer) refusal(code int, text []byte) error {
	body := strings.TrimSpace(string(text))
	switch {
	case code < 400:
		return errs.New(errs.Unavailable, "the kubelet answered with a redirect, which is never followed")
	case code == http.StatusBadRequest:
		return apierrors.NewBadRequest(body)
	case code == http.StatusInternalServerError:
		return apierrors.NewInternalError(errors.New(body))
	}
	err := apierrors.NewGenericServerResponse(code, a.verb, a.gvr.GroupResource(), a.name, body, 0, false)
	if body != "" {
		err.ErrStatus.Message = body
	}
	return err
}

// translated is what an in-process kubelet writes to: look, as a ResponseWriter.
type translated struct {
	w      http.ResponseWriter
	r      *http.Request
	a      answer
	code   int
	refuse bytes.Buffer
}

func (t *translated) Header() http.Header { return t.w.Header() }

func (t *translated) WriteHeader(code int) {
	if t.code != 0 {
		return
	}
	t.code = code
	if t.a.as != "" || code < 300 {
		t.w.WriteHeader(code)
	}
}

func (t *translated) Write(b []byte) (int, error) {
	if t.code == 0 {
		t.WriteHeader(http.StatusOK)
	}
	if t.a.as != "" || t.code < 300 {
		return t.w.Write(b)
	}
	if t.refuse.Len() < maxRefusal {
		t.refuse.Write(b[:min(len(b), maxRefusal-t.refuse.Len())])
	}
	return len(b), nil
}

// finish sends the refusal, if it was one.
func (t *translated) finish() {
	if t.a.as == "" && t.code >= 300 {
		t.w.Header().Del("Content-Length")
		sendError(t.w, t.r, t.a.refusal(t.code, t.refuse.Bytes()))
	}
}

// Flush passes on what was written, unless it is being translated.
func (t *translated) Flush() {
	if t.code == 0 {
		t.WriteHeader(http.StatusOK)
	}
	if t.a.as != "" || t.code < 300 {
		// The client gone away shows at the next write.
		_ = http.NewResponseController(t.w).Flush()
	}
}

// Hijack is how streams take over the connection.
func (t *translated) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(t.w).Hijack()
}
