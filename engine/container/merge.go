// SPDX-License-Identifier: Apache-2.0

package container

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// merge lays a Spec over an image's config and answers the result with the arguments of PID 1. It shares nothing with img
// that it changes.
func merge(img image.ContainerConfig, s Spec) (image.ContainerConfig, []string, error) {
	c := img
	if s.Entrypoint != nil {
		// An entrypoint of one empty string is how the Docker API spells "none".
		c.Entrypoint = slices.DeleteFunc(slices.Clone(s.Entrypoint), func(a string) bool { return len(s.Entrypoint) == 1 && a == "" })
		c.Cmd = nil
	}
	if s.Cmd != nil && (len(s.Cmd) > 0 || s.Entrypoint != nil) {
		c.Cmd = slices.Clone(s.Cmd)
	}
	c.Env = mergeEnv(img.Env, s.Env)
	c.Labels = maps.Clone(img.Labels)
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	maps.Copy(c.Labels, s.Labels)
	if s.Dir != "" {
		c.WorkingDir = s.Dir
	}
	if s.User != "" {
		c.User = s.User
	}
	if s.StopSignal != "" {
		c.StopSignal = s.StopSignal
	}
	if s.Healthcheck != nil {
		c.Healthcheck = s.Healthcheck
	}
	c.ExposedPorts = maps.Clone(img.ExposedPorts)
	for _, p := range s.Expose {
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		if !strings.Contains(p, "/") {
			p += "/tcp"
		}
		c.ExposedPorts[p] = struct{}{}
	}
	args := slices.Concat(c.Entrypoint, c.Cmd)
	if len(args) == 0 || args[0] == "" {
		return c, nil, errs.New(errs.Invalid, "no command specified: neither the image nor the request says what to run")
	}
	for i, a := range args {
		if strings.ContainsRune(a, 0) {
			return c, nil, errs.New(errs.Invalid, "argument %d holds a zero byte", i)
		}
	}
	if c.WorkingDir == "" {
		c.WorkingDir = "/"
	}
	c.WorkingDir = path.Clean("/" + c.WorkingDir)
	return c, args, nil
}

// mergeEnv lets later "K=V" replace earlier ones in place; a later "K" alone removes.
func mergeEnv(lists ...[]string) []string {
	var out []string
	at := map[string]int{}
	for _, kv := range slices.Concat(lists...) {
		k, _, set := strings.Cut(kv, "=")
		i, have := at[k]
		switch {
		case have && set:
			out[i] = kv
		case have:
			out[i] = ""
			delete(at, k)
		case set:
			at[k] = len(out)
			out = append(out, kv)
		}
	}
	return slices.DeleteFunc(out, func(kv string) bool { return kv == "" })
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// processEnv is what a process of a container finds in its environment: the engine's defaults below, what was configured
// above them.
func processEnv(configured []string, hostname, home string, terminal bool) []string {
	base := []string{defaultPath}
	if hostname != "" {
		base = append(base, "HOSTNAME="+hostname)
	}
	if terminal {
		base = append(base, "TERM=xterm")
	}
	env := mergeEnv(base, configured)
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		env = append(env, "HOME="+home)
	}
	return env
}
