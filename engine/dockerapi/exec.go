// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"errors"
	"fmt"
	"net/http"

	dcontainer "github.com/moby/moby/api/types/container"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/detach"
	"github.com/knarr/knarr/internal/errs"
)

func (s *Server) execCreate(w http.ResponseWriter, r *http.Request) error {
	var req dcontainer.ExecCreateRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return errs.New(errs.Invalid, "no exec command specified")
	}
	if _, err := detach.Parse(req.DetachKeys); err != nil {
		return err
	}
	id, err := s.Containers.ExecCreate(r.PathValue("id"), container.ExecSpec{
		Args: req.Cmd, Env: req.Env, Dir: req.WorkingDir, User: req.User, Terminal: req.Tty, Stdin: req.AttachStdin, Privileged: req.Privileged,
		DetachKeys: req.DetachKeys,
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, dcontainer.ExecCreateResponse{ID: id})
}

func (s *Server) execStart(w http.ResponseWriter, r *http.Request) error {
	var req dcontainer.ExecStartRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	id := r.PathValue("id")
	st, err := s.Containers.ExecInspect(id)
	switch {
	case err != nil:
		return err
	case st.Started:
		return errs.New(errs.Conflict, "exec %s has already run", id)
	case req.Detach:
		if err := s.Containers.ExecStart(r.Context(), id, container.Streams{}, true); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	keys, err := detach.Parse(st.Spec.DetachKeys)
	if err != nil {
		return err
	}
	conn, in, greet, err := takeOver(w, r, streamType(st.Spec.Terminal))
	if err != nil {
		return err
	}
	defer conn.Close()
	greet()
	ctx, streams, release := wired(r.Context(), conn, in, wiring{terminal: st.Spec.Terminal, stdin: st.Spec.Stdin, stdout: true, stderr: true, keys: keys})
	defer release()
	if req.ConsoleSize != nil && st.Spec.Terminal {
		size := make(chan container.Size, 1)
		size <- container.Size{Rows: uint16(req.ConsoleSize[0]), Cols: uint16(req.ConsoleSize[1])}
		streams.Resize = size
	}
	if err := s.Containers.ExecStart(ctx, id, streams, false); err != nil && ctx.Err() == nil && !errors.Is(err, container.ErrDetach) {
		// The status line is gone, so the reason goes where the person looks; the exit code comes from inspect.
		out := streams.Stdout
		if streams.Stderr != nil {
			out = streams.Stderr
		}
		fmt.Fprintf(out, "%s\r\n", err)
	}
	return nil
}

func (s *Server) execResize(w http.ResponseWriter, r *http.Request) error {
	sz, err := sizeOf(r)
	if err != nil {
		return err
	}
	if err := s.Containers.ExecResize(r.Context(), r.PathValue("id"), sz); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) execInspect(w http.ResponseWriter, r *http.Request) error {
	st, err := s.Containers.ExecInspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	out := dcontainer.ExecInspectResponse{
		ID: st.ID, ContainerID: st.Container, Running: st.Running, Pid: st.Pid, OpenStdin: st.Spec.Stdin, OpenStdout: true, OpenStderr: true,
		CanRemove: st.Started && !st.Running,
		ProcessConfig: &dcontainer.ExecProcessConfig{
			Tty: st.Spec.Terminal, Entrypoint: st.Spec.Args[0], Arguments: st.Spec.Args[1:], Privileged: &st.Spec.Privileged, User: st.Spec.User,
		},
	}
	if st.Started && !st.Running {
		out.ExitCode = &st.ExitCode
	}
	return writeJSON(w, http.StatusOK, out)
}
