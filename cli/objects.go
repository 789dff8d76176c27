// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
)

// object is KIND/NAME as the cluster knows it.
type object struct {
	path string // of the API: /api/v1/namespaces/default/configmaps/web
	name string // configmap/web
}

// apiResource is one kind in the cluster's discovery documents.
type apiResource struct {
	Resource   string
	Singular   string   `json:"singularResource"`
	ShortNames []string `json:"shortNames"`
	Scope      string
	Kind       struct{ Kind string } `json:"responseKind"`
}

// called: a resource, its singular, kind or short name; with its group behind a dot when several share it.
func (r apiResource) called(word, group string) bool {
	name, of, qualified := strings.Cut(word, ".")
	if qualified && of != group {
		return false
	}
	return name == r.Resource || name == r.Singular || strings.EqualFold(name, r.Kind.Kind) || slices.Contains(r.ShortNames, name)
}

// errNoKind: the cluster has no kind of that name.
var errNoKind = errors.New("no such kind")

// find looks up KIND/NAME in the cluster's discovery documents: one request each for the core group and all others.
func (a *apiClient) find(ctx context.Context, ref, namespace string) (object, error) {
	word, name, ok := strings.Cut(ref, "/")
	if !ok || word == "" || name == "" || strings.Contains(name, "/") {
		return object{}, fmt.Errorf("%q: want KIND/NAME: %w", ref, errNoKind)
	}
	const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	for _, root := range []string{"/api", "/apis"} {
		var doc struct {
			Items []struct {
				Metadata struct{ Name string }
				Versions []struct {
					Version   string
					Resources []apiResource
				}
			}
		}
		if err := a.do(ctx, http.MethodGet, root, aggregated, &doc); err != nil {
			return object{}, err
		}
		for _, g := range doc.Items {
			group := g.Metadata.Name
			for _, v := range g.Versions {
				for _, r := range v.Resources {
					if !r.called(word, group) {
						continue
					}
					path := root
					if root == "/apis" {
						path += "/" + group
					}
					path += "/" + v.Version
					if r.Scope == "Namespaced" {
						path += "/namespaces/" + url.PathEscape(namespace)
					}
					return object{path + "/" + r.Resource + "/" + url.PathEscape(name), strings.ToLower(r.Kind.Kind) + "/" + name}, nil
				}
			}
		}
	}
	return object{}, fmt.Errorf("%q: the cluster has no kind %q: %w", ref, word, errNoKind)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// do sends a request without a body and reads the answer's JSON. A bad answer is its Status' message.
func (a *apiClient) do(ctx context.Context, method, path, accept string, into any) error {
	_, err := a.doHeader(ctx, method, path, accept, into)
	return err
}

func (a *apiClient) doHeader(ctx context.Context, method, path, accept string, into any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.server+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "knarr")
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the cluster at %s does not answer: %w", a.server, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		var status struct{ Message string }
		if json.Unmarshal(body, &status) == nil && status.Message != "" {
			return nil, errors.New(status.Message)
		}
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, body)
	}
	return resp.Header, json.Unmarshal(body, into)
}

// cluster is the API as the user of --kubeconfig, KUBECONFIG or the instance's own.
func (i *instance) cluster(named bool) (*apiClient, error) {
	path := i.kubeconfig()
	if env := os.Getenv("KUBECONFIG"); env != "" && !named {
		path = env
	}
	return openKubeconfig(path)
}
