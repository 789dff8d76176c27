// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"
	"strconv"
	"time"

	dcontainer "github.com/moby/moby/api/types/container"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

// done answers 204, or what went wrong.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func (s *Server) containerStart(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Containers.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	if c.State == container.Running {
		return errNotModified
	}
	return done(w, s.Containers.Start(r.Context(), c.ID))
}

func (s *Server) containerKill(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.Containers.Kill(r.Context(), r.PathValue("id"), r.URL.Query().Get("signal")))
}

func (s *Server) containerPause(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.Containers.Pause(r.Context(), r.PathValue("id")))
}

func (s *Server) containerUnpause(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.Containers.Unpause(r.Context(), r.PathValue("id")))
}

func (s *Server) containerRename(w http.ResponseWriter, r *http.Request) error {
	return done(w, s.Containers.Rename(r.Context(), r.PathValue("id"), r.URL.Query().Get("name")))
}

func (s *Server) containerRemove(w http.ResponseWriter, r *http.Request) error {
	if truth(r, "link") {
		return errs.New(errs.Unsupported, "removing a link is not supported: remove the container that has it")
	}
	return done(w, s.Containers.Remove(r.Context(), r.PathValue("id"), container.RemoveOptions{Force: truth(r, "force"), Volumes: truth(r, "v")}))
}

func (s *Server) containerUpdate(w http.ResponseWriter, r *http.Request) error {
	var req dcontainer.UpdateConfig
	if err := readJSON(r, &req); err != nil {
		return err
	}
	res, err := resourcesOf(req.Resources)
	if err != nil {
		return errs.New(errs.Invalid, "%w", err)
	}
	if req.PidsLimit != nil && *req.PidsLimit <= 0 {
		res.PidsLimit = -1 // take the limit away
	}
	o := container.UpdateOptions{Resources: &res}
	if req.RestartPolicy.Name != "" {
		if err := dcontainer.ValidateRestartPolicy(req.RestartPolicy); err != nil {
			return errs.New(errs.Invalid, "%w", err)
		}
		o.Restart = &container.RestartPolicy{Name: string(req.RestartPolicy.Name), MaxRetries: req.RestartPolicy.MaximumRetryCount}
	}
	warnings, err := s.Containers.Update(r.Context(), r.PathValue("id"), o)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, dcontainer.UpdateResponse{Warnings: append([]string{}, warnings...)})
}

// containerWait sends the header at once, so that a client knows the watch stands before it starts the container.
func (s *Server) containerWait(w http.ResponseWriter, r *http.Request) error {
	cond := container.WaitCondition(r.URL.Query().Get("condition"))
	if cond == "" {
		cond = container.NotRunning
	}
	wait, err := s.Containers.Waiter(r.PathValue("id"), cond)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
	exit, err := wait(r.Context())
	resp := dcontainer.WaitResponse{StatusCode: int64(exit.Code)}
	if err != nil { // of the waiting; why a start failed is told to who asked for it
		resp.Error = &dcontainer.WaitExitError{Message: err.Error()}
	}
	return encode(w, resp)
}

func (s *Server) containerTop(w http.ResponseWriter, r *http.Request) error {
	titles, rows, err := s.Containers.Top(r.Context(), r.PathValue("id"), r.URL.Query().Get("ps_args"))
	if err != nil {
		return err
	}
	s.Containers.Note(r.PathValue("id"), "top", nil)
	return writeJSON(w, http.StatusOK, dcontainer.TopResponse{Titles: titles, Processes: rows})
}

func (s *Server) containerChanges(w http.ResponseWriter, r *http.Request) error {
	changes, err := s.Containers.Diff(r.PathValue("id"))
	if err != nil {
		return err
	}
	out := []dcontainer.FilesystemChange{}
	for _, c := range changes {
		out = append(out, dcontainer.FilesystemChange{Path: c.Path, Kind: dcontainer.ChangeType(c.Kind)})
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) containerPrune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.until(time.Now())
	if err != nil {
		return err
	}
	ids, freed, err := s.Containers.Prune(r.Context(), func(c container.Container) bool {
		return !f.labels(c.Config.Labels) || !until.IsZero() && !c.Created.Before(until)
	})
	if err != nil {
		return err
	}
	s.Containers.Publish(container.Event{Type: "container", Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatInt(freed, 10)}})
	return writeJSON(w, http.StatusOK, dcontainer.PruneReport{ContainersDeleted: ids, SpaceReclaimed: uint64(freed)})
}
