// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	dcontainer "github.com/moby/moby/api/types/container"
	dnetwork "github.com/moby/moby/api/types/network"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

func (s *Server) containerList(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "id", "name", "label", "status", "exited", "ancestor", "network", "volume", "before", "since", "publish", "expose", "health", "is-task")
	if err != nil {
		return err
	}
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	all := truth(r, "all") || limit > 0 || f["status"] != nil || f["exited"] != nil
	out := []dcontainer.Summary{}
	now := time.Now()
	for _, c := range s.Containers.List() {
		if !all && !running(c) || !s.listed(c, f) {
			continue
		}
		sum := summary(c, now)
		if truth(r, "size") {
			if sum.SizeRw, sum.SizeRootFs, err = s.Containers.Size(c.ID); err != nil {
				return err
			}
		}
		out = append(out, sum)
		if limit > 0 && len(out) == limit {
			break
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// listed says whether a container passes the filters of docker ps.
func (s *Server) listed(c container.Container, f filters) bool {
	return f.labels(c.Config.Labels) &&
		f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) &&
		f.any("name", func(v string) bool { return strings.Contains("/"+c.Spec.Name, v) || "^/"+c.Spec.Name+"$" == v }) &&
		f.any("status", func(v string) bool { return string(c.State) == v }) &&
		f.any("exited", func(v string) bool {
			return c.State == container.Exited && strconv.Itoa(c.ExitCode) == v
		}) &&
		f.any("ancestor", func(v string) bool {
			img, err := s.Images.Get(v)
			return err == nil && img.ID.String() == c.ImageID
		}) &&
		f.any("network", func(v string) bool {
			for name, e := range c.Endpoints {
				if name == v || e.NetworkID == v {
					return true
				}
			}
			return c.Spec.Network.Mode == v
		}) &&
		f.any("volume", func(v string) bool {
			return slices.ContainsFunc(c.MountPoints, func(m container.MountPoint) bool { return m.Name == v || m.Target == v })
		}) &&
		f.any("publish", func(v string) bool {
			return slices.ContainsFunc(c.Spec.Network.Ports, func(p container.Port) bool {
				n, _, _ := strings.Cut(v, "/")
				return strconv.Itoa(int(p.HostPort)) == n
			})
		}) &&
		f.any("before", func(v string) bool { o, err := s.Containers.Get(v); return err == nil && c.Created.Before(o.Created) }) &&
		f.any("since", func(v string) bool { o, err := s.Containers.Get(v); return err == nil && c.Created.After(o.Created) }) &&
		f.any("expose", func(v string) bool {
			if !strings.Contains(v, "/") {
				v += "/tcp"
			}
			_, ok := c.Config.ExposedPorts[v]
			return ok
		}) &&
		f.any("health", func(v string) bool { return v == "none" && c.Health == nil || c.Health != nil && c.Health.Status == v })
}

func summary(c container.Container, now time.Time) dcontainer.Summary {
	out := dcontainer.Summary{
		ID: c.ID, Names: []string{"/" + c.Spec.Name}, Image: c.ImageRef, ImageID: c.ImageID, Command: strings.Join(c.Args, " "),
		Created: c.Created.Unix(), Labels: c.Config.Labels, State: dcontainer.ContainerState(c.State), Status: status(c, now),
		Mounts: mountPoints(c), Ports: []dcontainer.PortSummary{},
		NetworkSettings: &dcontainer.NetworkSettingsSummary{Networks: map[string]*dnetwork.EndpointSettings{}},
	}
	out.HostConfig.NetworkMode = c.Spec.Network.Mode
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	for name, e := range c.Endpoints {
		out.NetworkSettings.Networks[name] = endpointSettings(e)
		for _, p := range e.Ports {
			out.Ports = append(out.Ports, dcontainer.PortSummary{IP: hostIP(p), PrivatePort: p.ContainerPort, PublicPort: p.HostPort, Type: p.Protocol})
		}
	}
	if len(c.Endpoints) > 0 {
		for e := range c.Config.ExposedPorts {
			p, err := dnetwork.ParsePort(e)
			if err == nil && !slices.ContainsFunc(out.Ports, func(o dcontainer.PortSummary) bool {
				return o.PrivatePort == p.Num() && o.Type == string(p.Proto())
			}) {
				out.Ports = append(out.Ports, dcontainer.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
			}
		}
		slices.SortFunc(out.Ports, func(a, b dcontainer.PortSummary) int {
			return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type), cmp.Compare(a.PublicPort, b.PublicPort))
		})
	}
	return out
}

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

func (s *Server) containerStop(w http.ResponseWriter, r *http.Request) error {
	grace, err := seconds(r, "t")
	if err != nil {
		return err
	}
	c, err := s.Containers.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	if c.State == container.Exited || c.State == container.Created {
		return errNotModified
	}
	return done(w, s.Containers.Stop(r.Context(), c.ID, grace))
}

func (s *Server) containerRestart(w http.ResponseWriter, r *http.Request) error {
	grace, err := seconds(r, "t")
	if err != nil {
		return err
	}
	return done(w, s.Containers.Restart(r.Context(), r.PathValue("id"), grace))
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
		return errs.New(errs.Unsupported, "container links are not supported: use a network and names")
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
	o := container.UpdateOptions{Resources: &res}
	if req.RestartPolicy.Name != "" {
		o.Restart = &container.RestartPolicy{Name: string(req.RestartPolicy.Name), MaxRetries: req.RestartPolicy.MaximumRetryCount}
	}
	if err := s.Containers.Update(r.Context(), r.PathValue("id"), o); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, dcontainer.UpdateResponse{Warnings: []string{}})
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
	f, err := readFilters(r, "label", "until")
	if err != nil {
		return err
	}
	ids, freed, err := s.Containers.Prune(r.Context(), func(c container.Container) bool { return !f.labels(c.Spec.Labels) })
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, dcontainer.PruneReport{ContainersDeleted: ids, SpaceReclaimed: uint64(freed)})
}
