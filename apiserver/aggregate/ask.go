// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/knarr/knarr/apiserver/auth"
)

// Bounds of what a server may tell of itself.
const (
	askWithin    = 6 * time.Second
	maxResources = 4 << 20
	maxIndex     = 1 << 20
	maxDocument  = 16 << 20
	mostNames    = 2000
)

// asker is who asks: the server itself, as upstream's aggregator does.
func asker() auth.User {
	return auth.User{Name: "system:kube-aggregator", Groups: []string{auth.Masters}}
}

// path is /apis/GROUP/VERSION.
func (s *Server) path() string { return "/apis/" + s.GroupVersion.String() }

// address is a server's URL as conditions name it.
func (s *Server) address(path string) string {
	if path == "" {
		path = s.path()
	}
	return (&url.URL{Scheme: "https", Host: s.reach.host, Path: path}).String()
}

// ask fills in what the server says of itself. Only the resources decide whether it is available: documents are a courtesy.
func (s *Servers) ask(ctx context.Context, to *Server) error {
	ctx, done := context.WithTimeout(ctx, askWithin)
	defer done()
	data, _, err := to.get(ctx, to.path(), "", maxResources)
	if err != nil {
		return err
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("read its resources: %w", err)
	}
	to.Resources = sane(list.APIResources)
	if err := to.documents(ctx); err != nil {
		s.cfg.Log.Debug("an aggregated API server gave no documents", "apiservice", to.of.Name, "err", err)
	}
	return nil
}

// sane leaves out what has no name or no kind, and brings the rest in order.
func sane(list []metav1.APIResource) []metav1.APIResource {
	list = slices.DeleteFunc(list, func(r metav1.APIResource) bool {
		return r.Name == "" || r.Kind == "" || strings.Count(r.Name, "/") > 1
	})
	slices.SortStableFunc(list, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	return list[:min(len(list), mostNames)]
}

// documents reads the OpenAPI documents, where there are newer ones.
func (s *Server) documents(ctx context.Context) error {
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	data, _, err3 := s.get(ctx, "/openapi/v3", "", maxIndex)
	if err3 == nil {
		err3 = json.Unmarshal(data, &index)
	}
	if err3 == nil {
		s.Documents.Hash = ""
		if u, err := url.Parse(index.Paths["apis/"+s.GroupVersion.String()].URL); err == nil {
			s.Documents.Hash = u.Query().Get("hash")
		}
	}
	data, tag, err2 := s.get(ctx, "/openapi/v2", s.Documents.etag, maxDocument)
	if err2 == nil && data != nil {
		if data, err2 = s.own(data); err2 == nil {
			s.Documents.V2, s.Documents.etag = data, tag
		}
	}
	return errors.Join(err3, err2)
}

// own is the part of a version 2 document that is about the group and version.
func (s *Server) own(data []byte) ([]byte, error) {
	doc := &spec.Swagger{}
	if err := json.Unmarshal(data, doc); err != nil {
		return nil, err
	}
	if doc.Paths == nil {
		doc.Paths = &spec.Paths{}
	}
	return json.Marshal(aggregator.FilterSpecByPathsWithoutSideEffects(doc, []string{s.path() + "/"}))
}

// get reads a path of the server. Where it has what tag names still, data is nil.
func (s *Server) get(ctx context.Context, path, tag string, most int64) (data []byte, newTag string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address(path), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "knarr")
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	auth.SetRemote(req.Header, asker())
	c := http.Client{Transport: s.reach.shared, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	if tag != "" && res.StatusCode == http.StatusNotModified {
		return nil, tag, nil
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return nil, "", fmt.Errorf("bad status from %s: %d", s.address(path), res.StatusCode)
	}
	if data, err = io.ReadAll(io.LimitReader(res.Body, most+1)); err != nil {
		return nil, "", err
	}
	if int64(len(data)) > most {
		return nil, "", fmt.Errorf("the answer of %s is larger than %d bytes", s.address(path), most)
	}
	return data, res.Header.Get("Etag"), nil
}
