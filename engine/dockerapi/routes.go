// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

type handler func(w http.ResponseWriter, r *http.Request) error

// Why parts of Docker's API are not here.
const (
	noBuildKit = "BuildKit sessions are not supported: set DOCKER_BUILDKIT=0, or use knarr build"
	noSwarm    = "swarm mode is not supported: a cluster is Kubernetes here, see knarr kubectl"
)

// notHere refuses by name.
func notHere(why string) handler {
	return func(http.ResponseWriter, *http.Request) error { return errs.New(errs.Unsupported, "%s", why) }
}

// entry is one line of the table: {x} is one path segment, {x...} one or more, a final "..." anything; method "*" is every one.
type entry struct {
	method, pattern string
	h               handler
}

// table lists every route; the first that matches serves.
func (s *Server) table() []entry {
	return []entry{
		{"GET", "/_ping", s.ping},
		{"HEAD", "/_ping", s.ping},
		{"GET", "/version", s.version},
		{"GET", "/info", s.info},
		{"GET", "/events", s.events},
		{"GET", "/system/df", s.diskUsage},
		{"GET", "/knarr/fsck", s.fsck},
		{"POST", "/auth", s.auth},

		{"GET", "/containers/json", s.containerList},
		{"POST", "/containers/create", s.containerCreate},
		{"POST", "/containers/prune", s.containerPrune},
		{"GET", "/containers/{id}/json", s.containerInspect},
		{"GET", "/containers/{id}/top", s.containerTop},
		{"GET", "/containers/{id}/logs", s.containerLogs},
		{"GET", "/containers/{id}/changes", s.containerChanges},
		{"GET", "/containers/{id}/export", s.containerExport},
		{"GET", "/containers/{id}/stats", s.containerStats},
		{"POST", "/containers/{id}/resize", s.containerResize},
		{"POST", "/containers/{id}/start", s.containerStart},
		{"POST", "/containers/{id}/stop", s.containerStop},
		{"POST", "/containers/{id}/restart", s.containerRestart},
		{"POST", "/containers/{id}/kill", s.containerKill},
		{"POST", "/containers/{id}/update", s.containerUpdate},
		{"POST", "/containers/{id}/rename", s.containerRename},
		{"POST", "/containers/{id}/pause", s.containerPause},
		{"POST", "/containers/{id}/unpause", s.containerUnpause},
		{"POST", "/containers/{id}/attach", s.containerAttach},
		{"POST", "/containers/{id}/wait", s.containerWait},
		{"DELETE", "/containers/{id}", s.containerRemove},
		{"HEAD", "/containers/{id}/archive", s.archiveStat},
		{"GET", "/containers/{id}/archive", s.archiveGet},
		{"PUT", "/containers/{id}/archive", s.archivePut},
		{"POST", "/commit", s.commit},

		{"POST", "/containers/{id}/exec", s.execCreate},
		{"POST", "/exec/{id}/start", s.execStart},
		{"POST", "/exec/{id}/resize", s.execResize},
		{"GET", "/exec/{id}/json", s.execInspect},

		{"GET", "/images/json", s.imageList},
		{"GET", "/images/search", s.imageSearch},
		{"POST", "/images/create", s.imagePull},
		{"POST", "/images/load", s.imageLoad},
		{"POST", "/images/prune", s.imagePrune},
		{"GET", "/images/get", s.imageSave},
		{"GET", "/images/{name...}/get", s.imageSave},
		{"GET", "/images/{name...}/json", s.imageInspect},
		{"GET", "/images/{name...}/history", s.imageHistory},
		{"POST", "/images/{name...}/push", s.imagePush},
		{"POST", "/images/{name...}/tag", s.imageTag},
		{"DELETE", "/images/{name...}", s.imageRemove},
		{"GET", "/images/{name...}/rootfs", s.imageRootfs}, // knarr's own
		{"POST", "/build", s.build},
		{"POST", "/build/prune", s.buildPrune},

		{"GET", "/networks", s.networkList},
		{"POST", "/networks/create", s.networkCreate},
		{"POST", "/networks/prune", s.networkPrune},
		{"GET", "/networks/{id}", s.networkInspect},
		{"DELETE", "/networks/{id}", s.networkRemove},
		{"POST", "/networks/{id}/connect", s.networkConnect},
		{"POST", "/networks/{id}/disconnect", s.networkDisconnect},

		{"GET", "/volumes", s.volumeList},
		{"POST", "/volumes/create", s.volumeCreate},
		{"POST", "/volumes/prune", s.volumePrune},
		{"GET", "/volumes/{name}", s.volumeInspect},
		{"PUT", "/volumes/{name}", s.volumeUpdate},
		{"DELETE", "/volumes/{name}", s.volumeRemove},

		{"GET", "/plugins", s.pluginList},
		{"GET", "/distribution/{name...}/json", s.distribution},
		{"GET", "/containers/{id}/attach/ws", notHere("attaching by WebSocket is not supported: attach by POST")},
		{"POST", "/session", notHere(noBuildKit)},
		{"POST", "/grpc", notHere(noBuildKit)},
		{"*", "/containers/{id}/checkpoints...", notHere("checkpoints are not supported")},
		{"*", "/plugins/...", notHere("plugins are not supported")},
		{"*", "/swarm...", notHere(noSwarm)},
		{"*", "/nodes...", notHere(noSwarm)},
		{"*", "/services...", notHere(noSwarm)},
		{"*", "/tasks...", notHere(noSwarm)},
		{"*", "/secrets...", notHere(noSwarm)},
		{"*", "/configs...", notHere(noSwarm)},
	}
}

type route struct {
	method string
	re     *regexp.Regexp
	names  []string
	h      handler
}

var placeholder = regexp.MustCompile(`\{(\w+)(\.\.\.)?\}`)

func compile(table []entry) []route {
	routes := make([]route, 0, len(table))
	for _, e := range table {
		r := route{method: e.method, h: e.h}
		expr := placeholder.ReplaceAllStringFunc(e.pattern, func(p string) string {
			m := placeholder.FindStringSubmatch(p)
			r.names = append(r.names, m[1])
			if m[2] != "" {
				return "(.+)"
			}
			return "([^/]+)"
		})
		if head, ok := strings.CutSuffix(expr, "..."); ok {
			expr = head + ".*"
		}
		r.re = regexp.MustCompile("^" + expr + "$")
		routes = append(routes, r)
	}
	return routes
}

func match(routes []route, method, path string) (handler, map[string]string, error) {
	path = strings.TrimSuffix(path, "/")
	for _, r := range routes {
		if r.method != method && r.method != "*" {
			continue
		}
		if m := r.re.FindStringSubmatch(path); m != nil {
			args := map[string]string{}
			for i, n := range r.names {
				args[n] = m[i+1]
			}
			return r.h, args, nil
		}
	}
	return nil, nil, errs.New(errs.NotFound, "page not found: %s %s", method, path)
}
