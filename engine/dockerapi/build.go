// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"net/http"

	dbuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/internal/errs"
)

// build is Docker's classic builder: the body is the context as a tar, plain or compressed.
func (s *Server) build(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	switch {
	case q.Get("version") == "2":
		return errs.New(errs.Unsupported, "%s", noBuildKit)
	case q.Get("remote") != "" && q.Get("remote") != "client-session":
		return errs.New(errs.Unsupported, "build from %s: only a context in the request body is read; download it first", q.Get("remote"))
	}
	req := build.Request{
		Context: r.Body, Dockerfile: q.Get("dockerfile"), Tags: q["t"], Target: q.Get("target"), Platform: q.Get("platform"),
		NoCache: truth(r, "nocache"), Pull: truth(r, "pull"), Network: q.Get("networkmode"),
	}
	for name, into := range map[string]any{"buildargs": &req.Args, "labels": &req.Labels} {
		if err := queryJSON(q.Get(name), into); err != nil {
			return errs.New(errs.Invalid, "parameter %s: %w", name, err)
		}
	}
	var err error
	if req.PullWith.AuthFor, err = registryAuths(r); err != nil {
		return err
	}
	m := newMessages(w)
	req.Progress = m
	if truth(r, "q") {
		req.Progress = nil
	}
	img, err := s.Builder.Build(r.Context(), req)
	if err != nil {
		return m.end(err)
	}
	aux, err := json.Marshal(map[string]string{"ID": img.ID.String()})
	if err != nil {
		return m.end(err)
	}
	raw := json.RawMessage(aux)
	m.send(jsonstream.Message{Aux: &raw})
	for _, t := range req.Tags {
		s.publish("image", "tag", t)
	}
	return nil
}

// queryJSON decodes a parameter; build arguments may be null (take it from the environment, which a daemon has none of).
func queryJSON(text string, into any) error {
	if text == "" {
		return nil
	}
	var values map[string]*string
	if err := json.Unmarshal([]byte(text), &values); err != nil {
		return err
	}
	out := map[string]string{}
	for k, v := range values {
		if v != nil {
			out[k] = *v
		}
	}
	*into.(*map[string]string) = out
	return nil
}

// buildPrune has nothing to do of its own: cached steps are images, and go with them.
func (s *Server) buildPrune(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, dbuild.CachePruneReport{CachesDeleted: []string{}})
}
