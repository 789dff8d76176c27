// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"

	dcontainer "github.com/moby/moby/api/types/container"

	"github.com/knarr/knarr/engine/container"
)

// statHeader answers a path's stat in the header that docker cp reads.
func (s *Server) statHeader(w http.ResponseWriter, r *http.Request) error {
	st, err := s.Containers.StatPath(r.Context(), r.PathValue("id"), r.URL.Query().Get("path"))
	if err != nil {
		return err
	}
	data, err := json.Marshal(dcontainer.PathStat(st))
	if err != nil {
		return err
	}
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(data))
	return nil
}

func (s *Server) archiveStat(w http.ResponseWriter, r *http.Request) error {
	return s.statHeader(w, r)
}

func (s *Server) archiveGet(w http.ResponseWriter, r *http.Request) error {
	if err := s.statHeader(w, r); err != nil {
		return err
	}
	s.Containers.Note(r.PathValue("id"), "archive-path", nil)
	w.Header().Set("Content-Type", "application/x-tar")
	return s.cut(r, s.Containers.CopyFrom(r.Context(), r.PathValue("id"), r.URL.Query().Get("path"), w))
}

func (s *Server) archivePut(w http.ResponseWriter, r *http.Request) error {
	err := s.Containers.CopyTo(r.Context(), r.PathValue("id"), r.URL.Query().Get("path"), r.Body, container.CopyToOptions{
		NoOverwriteDirNonDir: truth(r, "noOverwriteDirNonDir"), CopyUIDGID: truth(r, "copyUIDGID"),
	})
	if err == nil {
		s.Containers.Note(r.PathValue("id"), "extract-to-dir", nil)
		w.WriteHeader(http.StatusOK)
	}
	return err
}
