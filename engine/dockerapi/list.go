// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"cmp"
	"errors"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	dcontainer "github.com/moby/moby/api/types/container"
	dnetwork "github.com/moby/moby/api/types/network"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

func (s *Server) containerList(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "id", "name", "label", "annotation", "status", "exited", "ancestor", "network", "volume", "before", "since", "publish", "expose", "health", "is-task")
	if err != nil {
		return err
	}
	passes, err := s.psFilter(f)
	if err != nil {
		return err
	}
	limit := 0
	if v := r.URL.Query().Get("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil {
			return errs.New(errs.Invalid, "parameter limit: want a number, not %q", v)
		}
	}
	all := truth(r, "all") || limit > 0 || f["status"] != nil || f["exited"] != nil || f["before"] != nil || f["since"] != nil
	out := []dcontainer.Summary{}
	now := time.Now()
	for _, c := range s.Containers.List() {
		if !all && !running(c) || !passes(c) {
			continue
		}
		sum := s.summary(c, now)
		if truth(r, "size") {
			if sum.SizeRw, sum.SizeRootFs, err = s.Containers.Size(c.ID); errors.Is(err, errs.NotFound) {
				continue // removed meanwhile
			} else if err != nil {
				return err
			}
		}
		if !before(r, "1.52") {
			sum.Health = &dcontainer.HealthSummary{Status: dcontainer.NoHealthcheck}
			if c.Health != nil {
				sum.Health = &dcontainer.HealthSummary{Status: dcontainer.HealthStatus(c.Health.Status), FailingStreak: c.Health.FailingStreak}
			}
		}
		out = append(out, sum)
		if limit > 0 && len(out) == limit {
			break
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// psFilter compiles the filters of docker ps, and refuses values that mean nothing.
func (s *Server) psFilter(f filters) (func(container.Container) bool, error) {
	if err := f.oneOf("status", "created", "running", "paused", "restarting", "removing", "exited", "dead"); err != nil {
		return nil, err
	}
	if err := f.oneOf("health", "starting", "healthy", "unhealthy", "none"); err != nil {
		return nil, err
	}
	if err := f.oneOf("is-task", "true", "false", "1", "0"); err != nil {
		return nil, err
	}
	for _, v := range f["exited"] {
		if _, err := strconv.Atoi(v); err != nil {
			return nil, errs.New(errs.Invalid, "invalid filter 'exited=%s': want an exit code", v)
		}
	}
	var earliest, latest []time.Time
	for name, to := range map[string]*[]time.Time{"before": &latest, "since": &earliest} {
		for _, ref := range f[name] {
			c, err := s.Containers.Get(ref)
			if err != nil {
				return nil, err
			}
			*to = append(*to, c.Created)
		}
	}
	ports := map[string][]portRange{}
	for _, name := range []string{"publish", "expose"} {
		for _, v := range f[name] {
			p, err := parsePortRange(v)
			if err != nil {
				return nil, errs.New(errs.Invalid, "invalid filter '%s=%s': %w", name, v, err)
			}
			ports[name] = append(ports[name], p)
		}
	}
	ancestors := s.descendants(f["ancestor"])
	names := compileNames(f["name"])
	return func(c container.Container) bool {
		return f.labels(c.Config.Labels) && filters{"label": f["annotation"]}.labels(c.Spec.Annotations) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) &&
			(f["name"] == nil || slices.ContainsFunc(names, func(n nameFilter) bool { return n.matches(c.Spec.Name) })) &&
			f.any("status", func(v string) bool { return string(c.State) == v }) &&
			f.any("exited", func(v string) bool {
				return !running(c) && !c.StartedAt.IsZero() && strconv.Itoa(c.ExitCode) == v
			}) &&
			f.any("is-task", func(v string) bool { return v == "false" || v == "0" }) &&
			f.any("health", func(v string) bool { return v == "none" && c.Health == nil || c.Health != nil && c.Health.Status == v }) &&
			(f["ancestor"] == nil || ancestors(c)) &&
			f.any("network", func(v string) bool { return s.onNetwork(c, v) }) &&
			f.any("volume", func(v string) bool {
				return slices.ContainsFunc(c.MountPoints, func(m container.MountPoint) bool {
					return m.Name == v || m.Target == path.Clean(v) || m.Type == "bind" && m.Source == path.Clean(v)
				})
			}) &&
			(f["publish"] == nil || slices.ContainsFunc(ports["publish"], func(p portRange) bool { return p.published(c) })) &&
			(f["expose"] == nil || slices.ContainsFunc(ports["expose"], func(p portRange) bool { return p.exposed(c) })) &&
			!slices.ContainsFunc(latest, func(t time.Time) bool { return !c.Created.Before(t) }) &&
			!slices.ContainsFunc(earliest, func(t time.Time) bool { return !c.Created.After(t) })
	}, nil
}

// nameFilter matches names as regular expressions, with and without the slash before them; what is none is taken literally.
type nameFilter struct {
	text string
	re   *regexp.Regexp
}

func compileNames(values []string) []nameFilter {
	out := make([]nameFilter, 0, len(values))
	for _, v := range values {
		re, _ := regexp.Compile(v)
		out = append(out, nameFilter{v, re})
	}
	return out
}

func (n nameFilter) matches(name string) bool {
	if n.re == nil {
		return name == n.text
	}
	return n.re.MatchString(name) || n.re.MatchString("/"+name)
}

// onNetwork says whether a container is, or when it runs will be, on a network given by name or ID.
func (s *Server) onNetwork(c container.Container, ref string) bool {
	for name := range c.Networks {
		if name == ref {
			return true
		}
		if n, err := s.Networks.Get(name); err == nil && (n.Name == ref || ref != "" && strings.HasPrefix(n.ID, ref)) {
			return true
		}
	}
	return c.Spec.Network.Mode == ref
}

// descendants says of containers whether they run one of the images, or one that was built on it.
func (s *Server) descendants(refs []string) func(container.Container) bool {
	var roots []image.Image
	for _, ref := range refs {
		if img, err := s.Images.Get(ref); err == nil {
			roots = append(roots, img)
		}
	}
	return func(c container.Container) bool {
		img, err := s.Images.Get(c.ImageID)
		return slices.ContainsFunc(roots, func(root image.Image) bool {
			return root.ID.String() == c.ImageID || err == nil && builtOn(img, root)
		})
	}
}

// builtOn says whether img's history begins with all of root's.
func builtOn(img, root image.Image) bool {
	mine, its := img.Config.History, root.Config.History
	if len(its) == 0 || len(mine) < len(its) || len(img.Layers) < len(root.Layers) {
		return false
	}
	for i, h := range its {
		if mine[i].CreatedBy != h.CreatedBy || mine[i].EmptyLayer != h.EmptyLayer {
			return false
		}
	}
	return slices.Equal(img.Layers[:len(root.Layers)], root.Layers)
}

// portRange is "80", "80/udp" or "8000-8010/tcp".
type portRange struct {
	from, to uint16
	proto    string
}

func parsePortRange(v string) (portRange, error) {
	span, proto, _ := strings.Cut(v, "/")
	first, last, ranged := strings.Cut(span, "-")
	if !ranged {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || to < from {
		return portRange{}, errs.New(errs.Invalid, "want a port or a range of ports")
	}
	return portRange{uint16(from), uint16(to), cmp.Or(proto, "tcp")}, nil
}

func (p portRange) has(port uint16, proto string) bool {
	return p.from <= port && port <= p.to && cmp.Or(proto, "tcp") == p.proto
}

func (p portRange) published(c container.Container) bool {
	if slices.ContainsFunc(c.Spec.Network.Ports, func(o container.Port) bool { return p.has(o.ContainerPort, o.Protocol) }) {
		return true
	}
	for _, e := range c.Endpoints {
		if slices.ContainsFunc(e.Ports, func(o container.Port) bool { return p.has(o.ContainerPort, o.Protocol) }) {
			return true
		}
	}
	return false
}

func (p portRange) exposed(c container.Container) bool {
	for e := range c.Config.ExposedPorts {
		if o, err := dnetwork.ParsePort(e); err == nil && p.has(o.Num(), string(o.Proto())) {
			return true
		}
	}
	return false
}

func (s *Server) summary(c container.Container, now time.Time) dcontainer.Summary {
	out := dcontainer.Summary{
		ID: c.ID, Names: []string{"/" + c.Spec.Name}, Image: c.ImageRef, ImageID: c.ImageID, Command: commandLine(c.Args),
		Created: c.Created.Unix(), Labels: c.Config.Labels, State: dcontainer.ContainerState(c.State), Status: status(c, now),
		Mounts: mountPoints(c), Ports: []dcontainer.PortSummary{},
		NetworkSettings: &dcontainer.NetworkSettingsSummary{Networks: s.endpoints(c)},
	}
	if img, err := s.Images.Get(c.ImageRef); err != nil || img.ID.String() != c.ImageID { // the name means something else by now
		out.Image = c.ImageID
	}
	out.HostConfig.NetworkMode, out.HostConfig.Annotations = c.Spec.Network.Mode, c.Spec.Annotations
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	for _, e := range c.Endpoints {
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

// commandLine is a command as docker ps shows it.
func commandLine(args []string) string {
	words := slices.Clone(args)
	for i, w := range words {
		if i > 0 && strings.Contains(w, " ") {
			words[i] = "'" + w + "'"
		}
	}
	return strings.Join(words, " ")
}
