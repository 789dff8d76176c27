// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	dbuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// build is Docker's classic builder: the body is the context as a tar, plain or compressed.
func (s *Server) build(w http.ResponseWriter, r *http.Request) error {
	req, extras, err := buildRequest(r)
	if err != nil {
		return err
	}
	m := newMessages(w)
	req.Progress = m
	switch {
	case extras.Events:
		req.Progress, req.Watch = nil, m.buildEvent
	case truth(r, "q"):
		req.Progress = nil
	}
	img, err := s.Builder.Build(r.Context(), req)
	if err != nil {
		return m.end(err)
	}
	if err := m.aux(map[string]string{"ID": img.ID.String()}); err != nil {
		return m.end(err)
	}
	for _, t := range req.Tags {
		s.publish("image", "tag", t)
	}
	return nil
}

// aux sends a value for programs.
func (m *messages) aux(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	raw := json.RawMessage(data)
	m.send(jsonstream.Message{Aux: &raw})
	return nil
}

func (m *messages) buildEvent(ev build.Event) {
	m.aux(map[string]build.Event{"event": ev}) // an event always encodes
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

// buildPrune removes folders of cache mounts and, with all, every step that no named image came from.
func (s *Server) buildPrune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "until", "unused-for", "id", "type", "inuse", "shared", "private", "description", "parent")
	if err != nil {
		return err
	}
	o := build.PruneOptions{All: truth(r, "all"), IDs: f["id"]}
	for _, name := range []string{"until", "unused-for"} {
		if v := f[name]; len(v) > 0 {
			if o.UnusedIn, err = time.ParseDuration(v[0]); err != nil {
				return errs.New(errs.Invalid, "filter %s=%s: want a duration such as 24h", name, v[0])
			}
		}
	}
	for _, name := range []string{"keep-storage", "reserved-space", "max-used-space"} {
		if v := r.URL.Query().Get(name); v != "" {
			if o.Keep, err = strconv.ParseInt(v, 10, 64); err != nil {
				return errs.New(errs.Invalid, "parameter %s: %w", name, err)
			}
		}
	}
	report := dbuild.CachePruneReport{CachesDeleted: []string{}}
	ids, freed, err := s.Builder.PruneMounts(o)
	if err != nil {
		return err
	}
	report.CachesDeleted, report.SpaceReclaimed = append(report.CachesDeleted, ids...), uint64(freed)
	if o.UnusedIn == 0 && o.Keep == 0 && len(o.IDs) == 0 {
		if err := s.pruneSteps(r, o.All, &report); err != nil {
			return err
		}
	}
	s.publish("builder", "prune", "")
	return writeJSON(w, http.StatusOK, report)
}

// pruneSteps removes the images of build steps: those that nothing was made of, or with all also what a new build of an
// image would begin with.
func (s *Server) pruneSteps(r *http.Request, all bool, report *dbuild.CachePruneReport) error {
	if all {
		if err := s.Builder.PruneCache(); err != nil {
			return err
		}
	}
	removed, freed, err := s.Images.Prune(r.Context(), image.PruneOptions{InUse: s.Containers.ImageUsers, Keep: func(i image.Image) bool { return !i.Cache }})
	if err != nil {
		return err
	}
	s.publishRemoved(removed)
	for _, x := range removed {
		if x.Deleted != "" {
			report.CachesDeleted = append(report.CachesDeleted, x.Deleted.Encoded()[:12])
		}
	}
	report.SpaceReclaimed += uint64(freed)
	return nil
}

// cacheRecords are the folders of cache mounts. Cached steps are images, and count as such.
func (s *Server) cacheRecords() ([]dbuild.CacheRecord, error) {
	list, err := s.Builder.CacheMounts()
	if err != nil {
		return nil, err
	}
	out := []dbuild.CacheRecord{}
	for _, c := range list {
		used := c.Used
		out = append(out, dbuild.CacheRecord{ID: c.Key[:25], Type: "exec.cachemount", Description: "cached mount " + c.ID, InUse: c.Busy, Size: c.Size, CreatedAt: c.Created, LastUsedAt: &used, UsageCount: c.Uses})
	}
	return out, nil
}

// imageRootfs writes an image's file system as a tar: what knarr build --output asks for.
func (s *Server) imageRootfs(w http.ResponseWriter, r *http.Request) error {
	img, err := s.Images.Get(r.PathValue("name"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return s.cut(r, s.Builder.Export(r.Context(), img, w))
}
