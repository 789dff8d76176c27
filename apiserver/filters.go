// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/internal/errs"
)

// secure is what HTTPS clients reach.
func (s *Server) secure() http.Handler {
	return s.filtered(func(r *http.Request) (auth.User, error) { return s.authn.Authenticate(r) })
}

// insecure is what the loopback port serves: everybody on this machine is the administrator. A page in a browser on this
// machine is not: requests from other origins, and names other than this machine's, are refused.
func (s *Server) insecure() http.Handler {
	admin := s.filtered(func(r *http.Request) (auth.User, error) {
		r.Header.Del("Authorization")
		return auth.Admin(), nil
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		if host != "localhost" && host != "127.0.0.1" && host != "[" || r.Header.Get("Origin") != "" {
			http.Error(w, "this port serves local programs only", http.StatusForbidden)
			return
		}
		admin.ServeHTTP(w, r)
	})
}

// requestTime bounds requests that are not meant to last.
const requestTime = time.Minute

// filtered is the way of every request: recover, count, authenticate, impersonate, bound, authorise, then the route.
func (s *Server) filtered(authenticate func(*http.Request) (auth.User, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rt := parseRoute(r)
		rec := &recorder{ResponseWriter: w}
		begun := s.now()
		defer func() {
			if p := recover(); p != nil {
				s.recovered(rec, r, p)
			}
			s.metrics.observe(rt, r, rec.code, s.now().Sub(begun))
		}()
		if err := s.pass(rec, r, rt, authenticate); err != nil {
			sendError(rec, r, err)
		}
	})
}

func (s *Server) recovered(w *recorder, r *http.Request, p any) {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.Error("a request made the API server panic; it was answered with 500", "method", r.Method, "path", r.URL.Path, "err", p, "stack", string(debug.Stack()))
	if w.code == 0 {
		sendError(w, r, apierrors.NewInternalError(fmt.Errorf("the server met a fault of its own; its log says more")))
	}
}

func (s *Server) pass(w *recorder, r *http.Request, rt route, authenticate func(*http.Request) (auth.User, error)) error {
	user, err := authenticate(r)
	if err != nil {
		s.log.Debug("refused credentials", "path", r.URL.Path, "from", r.RemoteAddr, "err", err)
		w.Header().Set("Www-Authenticate", `Bearer realm="knarr"`)
		return apierrors.NewUnauthorized("Unauthorized")
	}
	if user, err = s.impersonate(r, user); err != nil {
		return err
	}
	other := s.others.List().Find(r.URL.Path)
	if rt.longRunning() || lasting(r, other) {
		ctx, done := untilEnd(r.Context())
		defer done()
		r = r.WithContext(ctx)
	} else {
		if !user.In(auth.Masters) && !exempt(rt) {
			release, ok := s.flight.enter(rt)
			if !ok {
				return apierrors.NewTooManyRequests("the server has too many requests in flight, please try again", 1)
			}
			defer release()
		}
		within, err := timeout(r)
		if err != nil {
			return err
		}
		ctx, done := context.WithTimeout(r.Context(), within)
		defer done()
		r = r.WithContext(ctx)
	}
	if ok, reason := s.authz.Allows(r.Context(), rt.attributes(user, r)); !ok {
		return refused(rt.attributes(user, r), reason)
	}
	if other != nil {
		return s.serveAggregated(w, r, other, user)
	}
	if rt.resource() {
		return s.serveResource(w, r, rt, user)
	}
	return s.servePath(w, r, user)
}

// exempt are the questions that must be answered also by a server that is overwhelmed.
func exempt(rt route) bool {
	switch rt.path {
	case "/healthz", "/livez", "/readyz":
		return true
	}
	return strings.HasPrefix(rt.path, "/livez/") || strings.HasPrefix(rt.path, "/readyz/") || strings.HasPrefix(rt.path, "/healthz/")
}

func timeout(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("timeout")
	if text == "" {
		return requestTime, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		if n, numErr := strconv.Atoi(text); numErr == nil {
			d, err = time.Duration(n)*time.Second, nil
		}
	}
	if err != nil {
		return 0, apierrors.NewBadRequest("invalid timeout specified in the request URL")
	}
	if d <= 0 || d > requestTime {
		d = requestTime
	}
	return d, nil
}

// refused words a denial as Kubernetes does.
func refused(a auth.Attributes, reason string) error {
	var text string
	if a.Path != "" {
		text = fmt.Sprintf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path)
	} else {
		resource := a.Resource
		if a.Subresource != "" {
			resource += "/" + a.Subresource
		}
		text = fmt.Sprintf("User %q cannot %s resource %q in API group %q", a.User.Name, a.Verb, resource, a.Group)
		if a.Namespace != "" {
			text += fmt.Sprintf(" in the namespace %q", a.Namespace)
		} else {
			text += " at the cluster scope"
		}
	}
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errs.New(errs.Denied, "%s", text))
}

// impersonate lets those who may act as somebody else.
func (s *Server) impersonate(r *http.Request, user auth.User) (auth.User, error) {
	const user0, group, uid, extra = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-"
	as := auth.User{Name: r.Header.Get(user0), UID: r.Header.Get(uid), Groups: r.Header.Values(group)}
	asked := as.Name != "" || as.UID != "" || len(as.Groups) > 0
	for k, values := range r.Header {
		if key, ok := strings.CutPrefix(k, extra); ok {
			if as.Extra == nil {
				as.Extra = map[string][]string{}
			}
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			as.Extra[strings.ToLower(key)] = values
			asked = true
			delete(r.Header, k)
		}
	}
	for _, h := range []string{user0, group, uid} {
		r.Header.Del(h)
	}
	if !asked {
		return user, nil
	}
	if as.Name == "" {
		return user, apierrors.NewBadRequest("requested impersonation of groups, uid or extra without impersonating a user")
	}
	for _, a := range impersonations(user, as) {
		if ok, reason := s.authz.Allows(r.Context(), a); !ok {
			return user, refused(a, reason)
		}
	}
	if ns, name, ok := accountOf(as.Name); ok && len(as.Groups) == 0 {
		as.Groups = auth.ServiceAccount(ns, name).Groups
	}
	switch {
	case as.Name == auth.Anonymous && !as.In(auth.Unauthenticated):
		as.Groups = append(as.Groups, auth.Unauthenticated)
	case as.Name != auth.Anonymous && !as.In(auth.Authenticated):
		as.Groups = append(as.Groups, auth.Authenticated)
	}
	return as, nil
}

func impersonations(user, as auth.User) []auth.Attributes {
	one := func(group, resource, namespace, name, sub string) auth.Attributes {
		return auth.Attributes{User: user, Verb: "impersonate", Group: group, Version: "v1", Resource: resource, Namespace: namespace, Name: name, Subresource: sub}
	}
	var list []auth.Attributes
	if ns, name, ok := accountOf(as.Name); ok {
		list = append(list, one("", "serviceaccounts", ns, name, ""))
	} else {
		list = append(list, one("", "users", "", as.Name, ""))
	}
	for _, g := range as.Groups {
		list = append(list, one("", "groups", "", g, ""))
	}
	if as.UID != "" {
		list = append(list, one("authentication.k8s.io", "uids", "", as.UID, ""))
	}
	for key, values := range as.Extra {
		for _, v := range values {
			list = append(list, one("authentication.k8s.io", "userextras", "", v, key))
		}
	}
	return list
}

func accountOf(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// flight bounds how many requests are worked on at once.
type flight struct{ reading, writing chan struct{} }

// Upstream's bounds.
const (
	maxReading = 400
	maxWriting = 200
)

func newFlight() *flight {
	return &flight{reading: make(chan struct{}, maxReading), writing: make(chan struct{}, maxWriting)}
}

// enter takes a place, or says that there is none.
func (f *flight) enter(rt route) (release func(), ok bool) {
	c := f.writing
	if rt.verb == "get" || rt.verb == "list" {
		c = f.reading
	}
	select {
	case c <- struct{}{}:
		return func() { <-c }, true
	default:
		return nil, false
	}
}

// recorder remembers the status code.
type recorder struct {
	http.ResponseWriter
	code int
}

// WriteHeader notes the first code.
func (w *recorder) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implies 200.
func (w *recorder) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection: to flush, and to hijack.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack hands the connection over; proxies and streams ask for it by type.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.code == 0 {
		w.code = http.StatusSwitchingProtocols
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Flush sends what was written so far.
func (w *recorder) Flush() {
	// The client gone away shows at the next write.
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}
