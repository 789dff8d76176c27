// SPDX-License-Identifier: Apache-2.0

package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/knarr/knarr/internal/errs"
)

// SearchResult is one repository that a search found.
type SearchResult struct {
	Name        string
	Description string
	Stars       int
	Official    bool
	Automated   bool
}

const maxAnswer = 8 << 20 // of a registry's lists

// Search finds repositories: "term" at Docker Hub, "host/term" at another registry. It uses the search of the first registry
// protocol, which few have beside Docker Hub, else the catalog of names.
func (s *Store) Search(ctx context.Context, term string, limit int, auth Auth) ([]SearchResult, error) {
	if limit < 0 || limit > 100 {
		return nil, errs.New(errs.Invalid, "limit %d is outside the range of [1, 100]", limit)
	}
	limit = cmp.Or(limit, 25)
	host, rest := dockerHub, strings.TrimPrefix(term, "library/")
	if h, r, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(h, ".:") || h == "localhost") {
		host, rest = RegistryHost(h), r
	}
	if rest == "" {
		return nil, errs.New(errs.Invalid, "search: want something to look for")
	}
	ep := s.remote.endpoint(host)
	out, err := ep.searchV1(ctx, rest, limit, auth)
	if statusOf(err) == http.StatusNotFound || errors.Is(err, errs.Unsupported) {
		out, err = ep.searchCatalog(ctx, rest, auth)
	}
	if code := statusOf(err); code == http.StatusNotFound || code == http.StatusUnauthorized || code == http.StatusForbidden {
		return nil, errs.New(errs.Unsupported, "registry %s offers no search: it has neither /v1/search nor, for this account, a catalog", host)
	}
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", host, unreachable(ep, err))
	}
	return out[:min(limit, len(out))], nil
}

func (ep endpoint) searchV1(ctx context.Context, term string, limit int, auth Auth) ([]SearchResult, error) {
	rt, err := ep.transport()
	if err != nil {
		return nil, err
	}
	reg, err := ep.registry()
	if err != nil {
		return nil, err
	}
	c := &http.Client{Transport: rt, CheckRedirect: checkRedirect}
	var doc struct {
		Results []struct {
			Name        string `json:"name"`
			Description string `json:"description"`
			Stars       int    `json:"star_count"`
			Official    bool   `json:"is_official"`
			Automated   bool   `json:"is_automated"`
		} `json:"results"`
	}
	query := "/v1/search?" + url.Values{"q": {term}, "n": {fmt.Sprint(limit)}}.Encode()
	err = getJSON(ctx, c, "https://"+reg.RegistryStr()+query, &doc)
	if err != nil && ep.plain && statusOf(err) == 0 {
		err = getJSON(ctx, c, "http://"+reg.RegistryStr()+query, &doc)
	}
	if err != nil {
		return nil, err
	}
	out := make([]SearchResult, 0, len(doc.Results))
	for _, r := range doc.Results {
		out = append(out, SearchResult{ep.displayed(r.Name), r.Description, r.Stars, r.Official, r.Automated})
	}
	return out, nil
}

// displayed is a found repository's name as pull takes it.
func (ep endpoint) displayed(name string) string {
	if ep.host == dockerHub {
		return strings.TrimPrefix(name, "library/")
	}
	return ep.host + "/" + name
}

func (ep endpoint) searchCatalog(ctx context.Context, term string, auth Auth) ([]SearchResult, error) {
	reg, err := ep.registry()
	if err != nil {
		return nil, err
	}
	rt, err := ep.connect(ctx, reg, auth, "registry:catalog:*")
	if err != nil {
		return nil, err
	}
	var doc struct {
		Repositories []string `json:"repositories"`
	}
	c := &http.Client{Transport: rt, CheckRedirect: checkRedirect}
	if err := getJSON(ctx, c, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/_catalog?n=10000", &doc); err != nil {
		return nil, err
	}
	out := []SearchResult{}
	for _, name := range doc.Repositories {
		if strings.Contains(name, term) {
			out = append(out, SearchResult{Name: ep.displayed(name)})
		}
	}
	slices.SortFunc(out, func(a, b SearchResult) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func getJSON(ctx context.Context, c *http.Client, url string, into any) error {
	resp, err := get(ctx, c, url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return err
	}
	return decodeBounded(resp.Body, maxAnswer, into)
}

func decodeBounded(r io.Reader, limit int64, into any) error {
	data, err := readBounded(r, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil { // a web page, as often as not
		return errs.New(errs.Unsupported, "the answer is no JSON: %w", err)
	}
	return nil
}

// statusOf is the HTTP status of a registry's refusal, 0 if err is something else.
func statusOf(err error) int {
	var te *transport.Error
	if errors.As(err, &te) {
		return te.StatusCode
	}
	return 0
}
