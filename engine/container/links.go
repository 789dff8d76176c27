// SPDX-License-Identifier: Apache-2.0

package container

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

// cutLink splits "container:alias"; without an alias it is the container's name.
func cutLink(l string) (ref, alias string) {
	ref, alias, ok := strings.Cut(strings.TrimPrefix(l, "/"), ":")
	if !ok {
		alias = ref
	}
	return ref, alias[strings.LastIndex(alias, "/")+1:]
}

// linkedSandboxes resolves links on a network that has names: alias to container ID. A container that does not exist (any
// more) has no name, as one that does not run.
func (e *Engine) linkedSandboxes(links []string) map[string]string {
	var out map[string]string
	for _, l := range links {
		ref, alias := cutLink(l)
		if o, err := e.find(ref); err == nil {
			if out == nil {
				out = map[string]string{}
			}
			out[alias] = o.id
		}
	}
	return out
}

// legacyLinks are links on the default network, which has no names: lines for /etc/hosts and variables that tell where the
// other's exposed ports are (docker run --link).
func (e *Engine) legacyLinks(rec record) (hosts, env []string, err error) {
	for _, l := range rec.Spec.Network.Links {
		ref, alias := cutLink(l)
		o, err := e.find(ref)
		if err != nil {
			return nil, nil, err
		}
		other := o.record()
		st := o.status()
		at := st.Endpoints[DefaultNetwork]
		if !st.running() || !at.IP.IsValid() {
			return nil, nil, errs.New(errs.Conflict, "Cannot link to a non running container: /%s AS /%s/%s", other.Spec.Name, rec.Spec.Name, alias)
		}
		names := []string{alias}
		for _, n := range []string{o.short(), other.Spec.Name} {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
		hosts = append(hosts, at.IP.String()+"\t"+strings.Join(names, " "))
		env = append(env, linkEnv(rec.Spec.Name, alias, at.IP.String(), other)...)
	}
	return hosts, env, nil
}

// linkEnv is what a container is told of one that it is linked to.
func linkEnv(self, alias, ip string, other record) []string {
	prefix := strings.ToUpper(strings.ReplaceAll(alias, "-", "_"))
	var ports []string
	for p := range other.Config.ExposedPorts {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b string) int { return portOf(a) - portOf(b) })
	var env []string
	for i, p := range ports {
		_, proto, _ := strings.Cut(p, "/")
		if proto == "" {
			proto = "tcp"
		}
		port := strconv.Itoa(portOf(p))
		url := proto + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			env = append(env, prefix+"_PORT="+url)
		}
		key := prefix + "_PORT_" + port + "_" + strings.ToUpper(proto)
		env = append(env, key+"="+url, key+"_ADDR="+ip, key+"_PORT="+port, key+"_PROTO="+proto)
	}
	env = append(env, prefix+"_NAME=/"+self+"/"+alias)
	for _, kv := range other.Config.Env {
		if k, _, ok := strings.Cut(kv, "="); ok && k != "HOME" && k != "PATH" {
			env = append(env, prefix+"_ENV_"+kv)
		}
	}
	return env
}

func portOf(p string) int {
	n, _, _ := strings.Cut(p, "/")
	v, _ := strconv.Atoi(n)
	return v
}
