// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Config says how to reach an API server over HTTP.
type Config struct {
	Server string      // "https://10.0.0.1:6443"
	TLS    *tls.Config // CA and, if that is how the client is known, its certificate (GetClientCertificate for one that changes)
	// Token is asked for each request; nil: none is sent. It returns what follows "Bearer ".
	Token     func() (string, error)
	JSON      bool   // ask for JSON instead of protobuf, for servers that have no other
	UserAgent string // default "knarr"
	// Dial replaces the way connections are made; for tests and sockets.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// HTTP is a Doer over HTTP. Make it with NewHTTP.
type HTTP struct {
	cfg  Config
	base *url.URL
	http *http.Client
}

var _ Doer = (*HTTP)(nil)

// Bounds of an answer, and how long one request may take; the caller's context may say less.
const (
	maxBody       = 64 << 20
	requestWithin = 60 * time.Second
)

const (
	protobufType = "application/vnd.kubernetes.protobuf"
	jsonType     = "application/json"
)

// NewHTTP checks cfg; it connects on the first request. HTTP/2 is spoken where the server does.
func NewHTTP(cfg Config) (*HTTP, error) {
	base, err := url.Parse(strings.TrimSuffix(cfg.Server, "/"))
	if err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != "http") {
		return nil, errs.New(errs.Invalid, "%q is not the URL of an API server (https://host:port)", cfg.Server)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "knarr"
	}
	return &HTTP{cfg: cfg, base: base, http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16, DialContext: cfg.Dial,
		},
		// A redirect of an API server is never followed: it would carry credentials elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Do carries a request out.
func (h *HTTP) Do(ctx context.Context, r Request) (kinds.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	method, path, q := target(r)
	body, contentType, err := h.body(r)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	resp, err := h.open(ctx, method, path, q, body, contentType, h.accept())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := readAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	obj, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	o, _ := obj.(kinds.Object) // a mere Status is none
	return o, nil
}

func (h *HTTP) accept() string {
	if h.cfg.JSON {
		return jsonType
	}
	return protobufType + "," + jsonType
}

// open sends a request and returns the answer if it is a good one; else its Status as an error.
func (h *HTTP) open(ctx context.Context, method, path string, q url.Values, body []byte, contentType, accept string) (*http.Response, error) {
	u := *h.base
	u.Path += path
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", h.cfg.UserAgent)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if h.cfg.Token != nil {
		token, err := h.cfg.Token()
		if err != nil {
			return nil, fmt.Errorf("%s %s: read the token: %w", method, path, err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := h.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, errs.New(errs.Unavailable, "%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, statusOf(resp)
}

// statusOf reads the Status of a bad answer; one that has none gets one made from its code.
func statusOf(resp *http.Response) error {
	b, err := readAll(resp.Body)
	if err == nil {
		if obj, err := decode(b); err == nil {
			if s, ok := obj.(*metav1.Status); ok {
				return FromStatus(*s)
			}
		}
	}
	text := strings.TrimSpace(string(b))
	if len(text) > 200 {
		text = text[:200]
	}
	return FromStatus(metav1.Status{
		Status: metav1.StatusFailure, Code: int32(resp.StatusCode),
		Message: fmt.Sprintf("%s %s: %s: %s", resp.Request.Method, resp.Request.URL.Path, resp.Status, text),
	})
}

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read the answer: %w", err)
	}
	if len(b) > maxBody {
		return nil, errs.New(errs.TooLarge, "the answer has more than %d bytes", maxBody)
	}
	return b, nil
}

// body encodes what a request carries.
func (h *HTTP) body(r Request) (b []byte, contentType string, err error) {
	switch r.Verb {
	case Patch:
		return r.Patch, string(r.PatchType), nil
	case Delete:
		o := metav1.DeleteOptions{GracePeriodSeconds: r.GracePeriod}
		o.APIVersion, o.Kind = "v1", "DeleteOptions"
		if r.UID != "" || r.ResourceVersion != "" {
			o.Preconditions = &metav1.Preconditions{}
			if r.UID != "" {
				o.Preconditions.UID = &r.UID
			}
			if r.ResourceVersion != "" {
				o.Preconditions.ResourceVersion = &r.ResourceVersion
			}
		}
		if r.Propagation != "" {
			p := metav1.DeletionPropagation(r.Propagation)
			o.PropagationPolicy = &p
		}
		if r.DryRun {
			o.DryRun = []string{metav1.DryRunAll}
		}
		b, err = json.Marshal(o)
		return b, jsonType, err
	case Create, Update:
		return h.encode(r.Object)
	}
	return nil, "", nil
}

// encode writes an object of any kind of the scheme.
func (h *HTTP) encode(obj kinds.Object) ([]byte, string, error) {
	gvks, _, err := kinds.Scheme().ObjectKinds(obj)
	if err != nil {
		return nil, "", err
	}
	if m, ok := obj.(interface{ Marshal() ([]byte, error) }); ok && !h.cfg.JSON {
		raw, err := m.Marshal()
		if err != nil {
			return nil, "", err
		}
		b, err := cache.Envelope(gvks[0].GroupVersion().String(), gvks[0].Kind, raw)
		return b, protobufType, err
	}
	// The object is shared, so its apiVersion and kind are not set in place.
	b, err := json.Marshal(obj)
	if err != nil {
		return nil, "", err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, "", err
	}
	fields["apiVersion"], _ = json.Marshal(gvks[0].GroupVersion().String())
	fields["kind"], _ = json.Marshal(gvks[0].Kind)
	b, err = json.Marshal(fields)
	return b, jsonType, err
}

// decode reads an object of any kind of the scheme, protobuf or JSON, with its apiVersion and kind set.
func decode(b []byte) (runtime.Object, error) {
	var u runtime.Unknown
	raw, isProto, err := cache.OpenEnvelope(b, &u)
	if err != nil {
		return nil, errs.New(errs.Invalid, "decode the answer: %w", err)
	}
	if !isProto {
		if err := json.Unmarshal(b, &u.TypeMeta); err != nil {
			return nil, errs.New(errs.Invalid, "decode the answer: %w", err)
		}
	}
	gvk := u.GetObjectKind().GroupVersionKind()
	obj, err := kinds.Scheme().New(gvk)
	if err != nil {
		return nil, errs.New(errs.Invalid, "decode the answer: %w", err)
	}
	if !isProto {
		err = json.Unmarshal(b, obj)
	} else if m, ok := obj.(interface{ Unmarshal([]byte) error }); ok {
		err = m.Unmarshal(raw)
	} else {
		err = fmt.Errorf("%s has no protobuf form", gvk.Kind)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "decode the answer: %w", err)
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, nil
}
