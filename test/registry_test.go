// SPDX-License-Identifier: Apache-2.0

package test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// startRegistries runs two registries on loopback for scripts: an open one, and one that asks for ann:secret.
func startRegistries(t *testing.T) (open, locked string) {
	t.Helper()
	start := func(door func(http.Handler) http.Handler) string {
		srv := httptest.NewServer(door(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
		t.Cleanup(srv.Close)
		return strings.TrimPrefix(srv.URL, "http://")
	}
	open = start(func(h http.Handler) http.Handler { return h })
	locked = start(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	return open, locked
}
