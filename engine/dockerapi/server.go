// SPDX-License-Identifier: Apache-2.0

// Package dockerapi serves the engine over Docker's HTTP API, so that the docker client, compose and everything that
// speaks to a Docker daemon works on Knarr.
//
// It translates and streams; it decides nothing about containers, and keeps no state beyond open connections. One file per
// resource; routes.go lists every route. Requests and answers are the types of github.com/moby/moby/api; what the engine
// cannot do is refused by name (501), what is unknown is ignored as Docker ignores it.
//
// The socket is the door: whoever may connect to it is root (mode 0660, owner root). Bodies are bounded: JSON at 4 MiB,
// archives and build contexts only by the disk.
//
// Goroutines: one per request, ended with it; a hijacked stream ends with the process, the client, or the server.
package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/common"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/engine/volume"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/version"
)

// Config is what the API is served from.
type Config struct {
	Containers *container.Engine
	Images     *image.Store
	Networks   *network.Networks
	Volumes    *volume.Volumes
	Builder    *build.Builder
	Name       string // of the instance
	DataDir    string

	Check func(ctx context.Context, deep bool) ([]string, error) // broken invariants of all the above; nil if nobody looks
}

// Server is the API as an http.Handler.
type Server struct {
	Config
	log    *slog.Logger
	routes []route
}

// New makes the handler. It starts nothing.
func New(cfg Config, log *slog.Logger) *Server {
	s := &Server{Config: cfg, log: log}
	s.routes = compile(s.table())
	return s
}

const maxJSON = 4 << 20

// ServeHTTP finds the route, with or without a version before it, and answers errors as Docker does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", version.DockerAPI)
	w.Header().Set("Docker-Experimental", "false")
	w.Header().Set("Ostype", "linux")
	w.Header().Set("Server", "Knarr/"+version.Version+" (linux)")
	path, spoken, err := unversioned(r.URL.Path)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	h, args, err := match(s.routes, r.Method, path)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for k, v := range args {
		r.SetPathValue(k, v)
	}
	r.SetPathValue(spokenVersion, spoken)
	if err := h(w, r); err != nil {
		s.fail(w, r, err)
	}
}

// spokenVersion is the path value that holds the version of the API that a request speaks.
const spokenVersion = "api version"

// before says whether a request speaks an older version of the API than v. Without one it speaks the newest.
func before(r *http.Request, v string) bool {
	spoken := r.PathValue(spokenVersion)
	return spoken != "" && older(spoken, v)
}

// unversioned cuts "/v1.43" off, and checks that this version is spoken.
func unversioned(path string) (rest, spoken string, err error) {
	v, rest, ok := strings.Cut(strings.TrimPrefix(path, "/v"), "/")
	if !strings.HasPrefix(path, "/v") || !ok || v == "" || v[0] < '0' || v[0] > '9' {
		return path, "", nil
	}
	switch {
	case older(v, version.DockerAPIMin):
		return "", "", errs.New(errs.Invalid, "client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, version.DockerAPIMin)
	case older(version.DockerAPI, v):
		return "", "", errs.New(errs.Invalid, "client version %s is too new. Maximum supported API version is %s", v, version.DockerAPI)
	}
	return "/" + rest, v, nil
}

// older compares versions of the form "1.43".
func older(a, b string) bool {
	var am, an, bm, bn int
	fmt.Sscanf(a, "%d.%d", &am, &an)
	fmt.Sscanf(b, "%d.%d", &bm, &bn)
	return am < bm || am == bm && an < bn
}

// errNotModified is the answer to starting what runs and stopping what does not.
var errNotModified = errors.New("not modified")

// statusOf maps kinds of failure to HTTP; all kinds are covered (server_test.go).
var statusOf = map[error]int{
	errs.NotFound:    http.StatusNotFound,
	errs.Exists:      http.StatusConflict,
	errs.Conflict:    http.StatusConflict,
	errs.Invalid:     http.StatusBadRequest,
	errs.Denied:      http.StatusForbidden,
	errs.Unauthentic: http.StatusUnauthorized,
	errs.Gone:        http.StatusGone,
	errs.Unavailable: http.StatusServiceUnavailable,
	errs.TooLarge:    http.StatusRequestEntityTooLarge,
	errs.Unsupported: http.StatusNotImplemented,
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errNotModified) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Context().Err() != nil { // the client has gone: nobody reads the answer
		return
	}
	status, ok := statusOf[errs.Kind(err)]
	var start *container.StartError
	switch {
	case errors.As(err, &start) && (start.Code == 126 || start.Code == 127):
		status = http.StatusBadRequest // the client turns it into exit code 126 or 127 by its text
	case !ok:
		status = http.StatusInternalServerError
		s.log.Error("docker api", "path", r.URL.Path, "err", err)
	}
	writeJSON(w, status, common.ErrorResponse{Message: err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

// readJSON decodes a bounded body; an empty one leaves v alone.
func readJSON(r *http.Request, v any) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxJSON+1))
	switch {
	case err != nil:
		return errs.New(errs.Invalid, "read request body: %w", err)
	case len(data) > maxJSON:
		return errs.New(errs.TooLarge, "the request body is larger than %d bytes", maxJSON)
	case len(data) == 0:
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return errs.New(errs.Invalid, "decode request body: %w", err)
	}
	return nil
}
