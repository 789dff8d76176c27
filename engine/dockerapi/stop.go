// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"net/http"

	dcontainer "github.com/moby/moby/api/types/container"

	"github.com/knarr/knarr/engine/container"
)

// noteHeader carries what stop and restart have to say beside that they did it; Docker's own clients do not look.
const noteHeader = "Knarr-Note"

func (s *Server) containerStop(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Containers.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	if c.State == container.Exited || c.State == container.Created {
		return errNotModified
	}
	return noted(w, r, c.ID, s.Containers.StopWith)
}

func (s *Server) containerRestart(w http.ResponseWriter, r *http.Request) error {
	return noted(w, r, r.PathValue("id"), s.Containers.RestartWith)
}

// noted stops as the request says: Docker's t and signal, and wait-anyway, which is ours.
func noted(w http.ResponseWriter, r *http.Request, id string, stop func(context.Context, string, container.StopOptions) (string, error)) error {
	grace, err := seconds(r, "t")
	if err != nil {
		return err
	}
	note, err := stop(r.Context(), id, container.StopOptions{Grace: grace, Signal: r.URL.Query().Get("signal"), WaitAnyway: truth(r, "wait-anyway")})
	if note != "" {
		w.Header().Set(noteHeader, note)
	}
	return done(w, err)
}

// stateView is Docker's state with what PID 1 does with signals, which Docker does not tell.
type stateView struct {
	*dcontainer.State
	Signals *signalsView `json:",omitempty"` // of a running container
}

type signalsView struct {
	Caught, Ignored, Blocked, Queued []string // names; Queued: read from a signalfd
	StopSignalReaches                bool     // stop waits for its effect; else it kills at once
}

type newInspect struct {
	dcontainer.InspectResponse
	State *stateView
}

func (s *Server) stateView(c container.Container, st *dcontainer.State) *stateView {
	out := &stateView{State: st}
	sig, ok, err := s.Containers.Signals(c.ID)
	if err != nil || !ok { // gone meanwhile
		return out
	}
	out.Signals = &signalsView{Caught: sig.Caught.Names(), Ignored: sig.Ignored.Names(), Blocked: sig.Blocked.Names(), Queued: sig.Queued.Names()}
	if stop, err := container.ParseSignal(c.StopSignal); err == nil {
		out.Signals.StopSignalReaches = sig.Reaches(stop)
	}
	return out
}
