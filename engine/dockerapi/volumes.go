// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"errors"
	"net/http"
	"strings"
	"time"

	dvolume "github.com/moby/moby/api/types/volume"

	"github.com/knarr/knarr/engine/volume"
	"github.com/knarr/knarr/internal/errs"
)

func (s *Server) volumeView(v volume.Volume) dvolume.Volume {
	path, _ := s.Volumes.Path(v.Name) // a volume that is removed meanwhile has none
	out := dvolume.Volume{
		Name: v.Name, Driver: v.Driver, Mountpoint: path, CreatedAt: v.Created.Format(time.RFC3339), Labels: v.Labels, Options: v.Options, Scope: "local",
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

func (s *Server) volumeList(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "name", "label", "dangling", "driver")
	if err != nil {
		return err
	}
	out := dvolume.ListResponse{Volumes: []dvolume.Volume{}, Warnings: []string{}}
	for _, v := range s.Volumes.List() {
		if f.labels(v.Labels) &&
			(f["dangling"] == nil || f.flag("dangling", false) == (len(s.Volumes.Users(v.Name)) == 0)) &&
			f.any("name", func(n string) bool { return strings.Contains(v.Name, n) }) &&
			f.any("driver", func(d string) bool { return v.Driver == d }) {
			out.Volumes = append(out.Volumes, s.volumeView(v))
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) volumeCreate(w http.ResponseWriter, r *http.Request) error {
	var req dvolume.CreateRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	v, err := s.Volumes.Create(req.Name, req.Driver, req.Labels, req.DriverOpts)
	if err != nil {
		return err
	}
	s.publish("volume", "create", v.Name)
	return writeJSON(w, http.StatusCreated, s.volumeView(v))
}

func (s *Server) volumeInspect(w http.ResponseWriter, r *http.Request) error {
	v, err := s.Volumes.Get(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.volumeView(v))
}

func (s *Server) volumeUpdate(http.ResponseWriter, *http.Request) error {
	return errs.New(errs.Unavailable, "volume update only valid for cluster volumes, but swarm is unavailable")
}

func (s *Server) volumeRemove(w http.ResponseWriter, r *http.Request) error {
	err := s.Volumes.Remove(r.PathValue("name"))
	if truth(r, "force") && errors.Is(err, errs.NotFound) {
		return done(w, nil)
	}
	if err == nil {
		s.publish("volume", "destroy", r.PathValue("name"))
	}
	return done(w, err)
}

func (s *Server) volumePrune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "label", "label!", "all")
	if err != nil {
		return err
	}
	report := dvolume.PruneReport{VolumesDeleted: []string{}}
	for _, v := range s.Volumes.List() {
		if len(s.Volumes.Users(v.Name)) > 0 || !f.labels(v.Labels) || !v.Anonymous && !f.flag("all", false) {
			continue
		}
		if err := s.Volumes.Remove(v.Name); err != nil {
			return err
		}
		s.publish("volume", "destroy", v.Name)
		report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
	}
	return writeJSON(w, http.StatusOK, report)
}
