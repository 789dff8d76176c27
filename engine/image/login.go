// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/knarr/knarr/internal/errs"
)

// RegistryHost is the host[:port] of what people type for a registry: a host, a URL, Docker Hub's old address, or "".
func RegistryHost(address string) string {
	host := strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "", "index.docker.io", "registry-1.docker.io", dockerHub:
		return dockerHub
	}
	return host
}

// Login asks a registry whether it takes the credentials. Nothing is kept.
func (s *Store) Login(ctx context.Context, address string, auth Auth) error {
	ep := s.remote.endpoint(RegistryHost(address))
	reg, err := ep.registry()
	if err != nil {
		return err
	}
	rt, err := ep.connect(ctx, reg, auth)
	if err != nil {
		return loginError(ep, err)
	}
	resp, err := get(ctx, &http.Client{Transport: rt, CheckRedirect: checkRedirect}, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/")
	if err != nil {
		return loginError(ep, err)
	}
	defer resp.Body.Close()
	return loginError(ep, transport.CheckError(resp, http.StatusOK))
}

func loginError(ep endpoint, err error) error {
	if err == nil {
		return nil
	}
	if code := statusOf(err); code == http.StatusUnauthorized || code == http.StatusForbidden {
		return errs.New(errs.Unauthentic, "login to %s: unauthorized: incorrect username or password", ep.host)
	}
	return unreachable(ep, err)
}

func get(ctx context.Context, c *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return c.Do(req)
}
