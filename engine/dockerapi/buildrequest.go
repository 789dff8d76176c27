// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/internal/errs"
)

// buildExtras is what knarr's own client asks for beyond Docker's classic API: the header X-Knarr-Build, base64 of JSON.
// It is a header because an address is logged on its way, and holds less.
type buildExtras struct {
	Secrets map[string][]byte `json:"secrets,omitempty"`
	SSH     map[string]string `json:"ssh,omitempty"` // sockets on the daemon's machine
	Allow   []string          `json:"allow,omitempty"`
	Events  bool              `json:"events,omitempty"` // build.Event messages instead of text

	Dockerfile []byte `json:"dockerfile,omitempty"` // in place of one in the context
}

const buildExtrasHeader = "X-Knarr-Build"

// buildRequest reads the query and headers of POST /build.
func buildRequest(r *http.Request) (build.Request, buildExtras, error) {
	q := r.URL.Query()
	req := build.Request{
		Context: r.Body, Dockerfile: q.Get("dockerfile"), Tags: q["t"], Target: q.Get("target"), Platform: q.Get("platform"),
		NoCache: truth(r, "nocache"), Pull: truth(r, "pull"), ExtraHosts: q["extrahosts"],
	}
	var extras buildExtras
	if remote := q.Get("remote"); remote != "" && remote != "client-session" {
		req.Context, req.Remote = nil, remote
	}
	if err := refuseBuild(q.Get); err != nil {
		return req, extras, err
	}
	var err error
	if req.Network, err = buildNetwork(q.Get("networkmode")); err != nil {
		return req, extras, err
	}
	for name, into := range map[string]any{"buildargs": &req.Args, "labels": &req.Labels} {
		if err := queryJSON(q.Get(name), into); err != nil {
			return req, extras, errs.New(errs.Invalid, "parameter %s: %w", name, err)
		}
	}
	if v := q.Get("cachefrom"); v != "" {
		if err := json.Unmarshal([]byte(v), &req.CacheFrom); err != nil {
			return req, extras, errs.New(errs.Invalid, "parameter cachefrom: %w", err)
		}
	}
	if req.PullWith.AuthFor, err = registryAuths(r); err != nil {
		return req, extras, err
	}
	if err := buildLimits(q.Get, &req); err != nil {
		return req, extras, err
	}
	if v := r.Header.Get(buildExtrasHeader); v != "" {
		data, err := base64.StdEncoding.DecodeString(v)
		if err == nil {
			err = json.Unmarshal(data, &extras)
		}
		if err != nil {
			return req, extras, errs.New(errs.Invalid, "header %s: %w", buildExtrasHeader, err)
		}
		req.Source = extras.Dockerfile
		req.Secrets, req.SSH, req.Allow = extras.Secrets, extras.SSH, extras.Allow
	}
	return req, extras, nil
}

// refuseBuild names what a build cannot do.
func refuseBuild(get func(string) string) error {
	switch {
	case get("version") == "2":
		return errs.New(errs.Unsupported, "%s", noBuildKit)
	case get("squash") == "1" || get("squash") == "true":
		return errs.New(errs.Unsupported, "--squash is not supported: use a last stage FROM scratch with COPY --from, which gives one layer")
	case get("cgroupparent") != "":
		return errs.New(errs.Unsupported, "a cgroup parent for builds is not supported; use the limits for memory and CPU")
	case get("securityopt") != "":
		return errs.New(errs.Unsupported, "security options for builds are not supported: builds have the default profile")
	case get("isolation") != "" && get("isolation") != "default":
		return errs.New(errs.Unsupported, "isolation is for Windows")
	case get("outputs") != "":
		return errs.New(errs.Unsupported, "outputs are not supported by the classic builder's API: use knarr build --output")
	}
	return nil
}

func buildNetwork(mode string) (string, error) {
	switch mode {
	case "", "default", "bridge":
		return "default", nil
	case "none", "host":
		return mode, nil
	}
	return "", errs.New(errs.Unsupported, "network mode %q is not supported for builds: use default, none or host", mode)
}

func buildLimits(get func(string) string, req *build.Request) error {
	l := &req.Limits
	l.CpusetCpus, l.CpusetMems = get("cpusetcpus"), get("cpusetmems")
	for name, into := range map[string]*int64{"memory": &l.Memory, "memswap": &l.MemorySwap, "cpushares": &l.CPUShares, "cpuperiod": &l.CPUPeriod,
		"cpuquota": &l.CPUQuota, "shmsize": &req.ShmSize} {
		v := get(name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < -1 {
			return errs.New(errs.Invalid, "parameter %s=%s: want a number", name, v)
		}
		*into = n
	}
	if v := get("ulimits"); v != "" {
		var list []units.Ulimit
		if err := json.Unmarshal([]byte(v), &list); err != nil {
			return errs.New(errs.Invalid, "parameter ulimits: %w", err)
		}
		for _, u := range list {
			l.Ulimits = append(l.Ulimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
		}
	}
	return nil
}
