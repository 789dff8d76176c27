// SPDX-License-Identifier: Apache-2.0

// Package apiservertest runs a real API server for tests: HTTPS on a loopback port, RBAC, admission, on store/mem.
package apiservertest

import (
	"testing"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/state/client"
)

// Server is a running API server; the test's end stops it.
type Server struct {
	*apiserver.Server
	URL        string      // HTTPS
	Kubeconfig string      // path of a kubeconfig for the admin
	Admin      client.Doer // the API as the admin, in process
}

// New starts an API server and returns when it is ready. Options may change the configuration before.
func New(t testing.TB, options ...func(*apiserver.Config)) *Server {
	t.Helper()
	t.Fatal("not there yet")
	return nil
}
