// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

const maxTags = 10_000

// Tags lists a repository's tags at its registry.
func (s *Store) Tags(ctx context.Context, repository string, o PullOptions) ([]string, error) {
	n, err := ParseName(repository)
	if err != nil {
		return nil, err
	}
	repo, err := s.ownRepo(ctx, n, o)
	if err != nil {
		return nil, err
	}
	var out []string
	for next := repo.base + "/tags/list?n=1000"; next != ""; {
		var page []string
		if page, next, err = repo.tagPage(ctx, next); err != nil {
			return nil, fmt.Errorf("tags of %s: %w", reference.FamiliarName(n), err)
		}
		if out = append(out, page...); len(out) > maxTags {
			return nil, errs.New(errs.TooLarge, "%s has more than %d tags", reference.FamiliarName(n), maxTags)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// ownRepo is the repository at the registry itself.
func (s *Store) ownRepo(ctx context.Context, n reference.Named, o PullOptions) (*remoteRepo, error) {
	ep := s.remote.endpoint(reference.Domain(n))
	ep.plain, ep.insecure = ep.plain || o.Insecure, ep.insecure || o.Insecure
	return openRepo(ctx, n, ep, o.auth(reference.Domain(n)), "pull")
}

// tagPage answers one page and where the next is, "" after the last.
func (r *remoteRepo) tagPage(ctx context.Context, page string) ([]string, string, error) {
	resp, err := get(ctx, r.client, page)
	if err != nil {
		return nil, "", registryError(r.named, r.ep, err)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, "", registryError(r.named, r.ep, err)
	}
	var doc struct {
		Tags []string `json:"tags"`
	}
	if err := decodeBounded(resp.Body, maxAnswer, &doc); err != nil {
		return nil, "", err
	}
	next, err := nextPage(resp.Request.URL, resp.Header.Get("Link"))
	return doc.Tags, next, err
}

// nextPage reads RFC 5988's `<url>; rel="next"`. It must be at the same registry: our credentials go there.
func nextPage(from *url.URL, link string) (string, error) {
	inner, rel, ok := strings.Cut(link, ">")
	target, open := strings.CutPrefix(strings.TrimSpace(inner), "<")
	if !ok || !open || !strings.Contains(rel, "next") {
		return "", nil
	}
	u, err := from.Parse(target)
	if err != nil {
		return "", errs.New(errs.Invalid, "the registry's next page %.200q: %w", target, err)
	}
	if u.Host != from.Host || u.Scheme != from.Scheme || u.String() == from.String() {
		return "", errs.New(errs.Denied, "the registry's next page is at %.200q", u)
	}
	return u.String(), nil
}

// Distribution is what a registry has under a reference, without pulling it.
type Distribution struct {
	Descriptor ocispec.Descriptor
	Platforms  []ocispec.Platform
}

// Ask asks the registry what a reference is.
func (s *Store) Ask(ctx context.Context, ref string, o PullOptions) (Distribution, error) {
	n, err := ParseName(ref)
	if err != nil {
		return Distribution{}, err
	}
	repo, err := s.ownRepo(ctx, n, o)
	if err != nil {
		return Distribution{}, err
	}
	tag, _ := target(n)
	raw, d, mt, err := repo.manifest(ctx, tag)
	if err != nil {
		return Distribution{}, err
	}
	doc, err := parseManifest(raw, mt)
	if err != nil {
		return Distribution{}, err
	}
	if doc.MediaType != "" {
		mt = doc.MediaType
	}
	out := Distribution{Descriptor: ocispec.Descriptor{MediaType: mt, Digest: d, Size: int64(len(raw))}}
	if doc.isIndex {
		for _, m := range doc.Manifests {
			if m.Platform != nil && m.Platform.OS != "unknown" { // attestations are marked so
				out.Platforms = append(out.Platforms, *m.Platform)
			}
		}
		return out, nil
	}
	config, err := repo.document(ctx, doc.Config, maxConfigSize)
	if err != nil {
		return Distribution{}, err
	}
	sp, err := parseSpec(config)
	out.Platforms = []ocispec.Platform{sp.Platform}
	return out, err
}

// Tagged lists the local tags of a repository, as references.
func (s *Store) Tagged(repository string) ([]string, error) {
	n, err := reference.ParseNormalizedNamed(repository)
	if err != nil {
		return nil, invalidName(repository, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for name := range s.names {
		if strings.HasPrefix(name, n.Name()+":") {
			out = append(out, familiar(name))
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return nil, errs.New(errs.NotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(n))
	}
	return out, nil
}
