// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"iter"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/downward"
)

// Env is a container's environment, in order.
type Env struct {
	names  []string
	values map[string]string
	// Skipped are the keys of envFrom that cannot be names of variables.
	Skipped []string
}

func (e *Env) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

// List is the environment as a process gets it.
func (e *Env) List() []string {
	out := make([]string, len(e.names))
	for i, n := range e.names {
		out[i] = n + "=" + e.values[n]
	}
	return out
}

// MakeEnv works a container's environment out: services' variables, then envFrom, then env; the later wins. HOSTNAME is first of all.
func MakeEnv(p *corev1.Pod, c *corev1.Container, n *Node, src Sources) (*Env, error) {
	e := &Env{values: map[string]string{}}
	e.set("HOSTNAME", Hostname(p, n))
	for k, v := range serviceVars(p, src) {
		e.set(k, v)
	}
	for i := range c.EnvFrom {
		if err := e.from(p, &c.EnvFrom[i], src); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		v := &c.Env[i]
		if v.ValueFrom == nil {
			e.set(v.Name, e.Expand(v.Value))
			continue
		}
		value, ok, err := valueFrom(p, c, v.ValueFrom, n, src)
		if err != nil {
			return nil, err
		}
		if ok {
			e.set(v.Name, value)
		}
	}
	return e, nil
}

// from adds all keys of a ConfigMap or Secret.
func (e *Env) from(p *corev1.Pod, f *corev1.EnvFromSource, src Sources) error {
	data := map[string]string{}
	switch {
	case f.ConfigMapRef != nil:
		cm, ok := src.ConfigMap(p.Namespace, f.ConfigMapRef.Name)
		if !ok && !optional(f.ConfigMapRef.Optional) {
			return errs.New(errs.NotFound, "configmap %q not found", f.ConfigMapRef.Name)
		}
		if ok {
			data = cm.Data
		}
	case f.SecretRef != nil:
		s, ok := src.Secret(p.Namespace, f.SecretRef.Name)
		if !ok && !optional(f.SecretRef.Optional) {
			return errs.New(errs.NotFound, "secret %q not found", f.SecretRef.Name)
		}
		if ok {
			for k, v := range s.Data {
				data[k] = string(v)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		name := f.Prefix + k
		if name == "" || strings.ContainsAny(name, "=\x00") {
			e.Skipped = append(e.Skipped, name)
			continue
		}
		e.set(name, data[k])
	}
	return nil
}

func optional(b *bool) bool { return b != nil && *b }

// valueFrom answers one value; ok is false when it is optional and missing.
func valueFrom(p *corev1.Pod, c *corev1.Container, v *corev1.EnvVarSource, n *Node, src Sources) (value string, ok bool, err error) {
	switch {
	case v.FieldRef != nil:
		value, err = downward.Field(p, v.FieldRef.FieldPath)
		return value, true, err
	case v.ResourceFieldRef != nil:
		of := c
		if name := v.ResourceFieldRef.ContainerName; name != "" && name != c.Name {
			all := slices.Concat(p.Spec.Containers, p.Spec.InitContainers)
			i := slices.IndexFunc(all, func(x corev1.Container) bool { return x.Name == name })
			if i < 0 {
				return "", false, fmt.Errorf("container %q not found", name)
			}
			of = &all[i]
		}
		value, err = downward.Resource(of, v.ResourceFieldRef, n.Allocatable)
		return value, true, err
	case v.ConfigMapKeyRef != nil:
		r := v.ConfigMapKeyRef
		cm, found := src.ConfigMap(p.Namespace, r.Name)
		if !found && !optional(r.Optional) {
			return "", false, errs.New(errs.NotFound, "configmap %q not found", r.Name)
		}
		if found {
			value, ok = cm.Data[r.Key]
		}
		if !ok && !optional(r.Optional) {
			err = errs.New(errs.NotFound, "couldn't find key %s in ConfigMap %s/%s", r.Key, p.Namespace, r.Name)
		}
		return value, ok, err
	case v.SecretKeyRef != nil:
		r := v.SecretKeyRef
		s, found := src.Secret(p.Namespace, r.Name)
		if !found && !optional(r.Optional) {
			return "", false, errs.New(errs.NotFound, "secret %q not found", r.Name)
		}
		var b []byte
		if found {
			b, ok = s.Data[r.Key]
		}
		if !ok && !optional(r.Optional) {
			err = errs.New(errs.NotFound, "couldn't find key %s in Secret %s/%s", r.Key, p.Namespace, r.Name)
		}
		return string(b), ok, err
	}
	return "", false, errs.New(errs.Unsupported, "this source of an environment variable is not supported")
}

// Expand replaces $(NAME) by the variable's value. $$ is a dollar sign; a name that is not set stays as it is.
func (e *Env) Expand(s string) string {
	out, _ := e.expand(s)
	return out
}

// expand also tells the first name that is not set.
func (e *Env) expand(s string) (out, missing string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				b.WriteString(s[i : i+2])
				i++
				continue
			}
			name := s[i+2 : i+end]
			if v, ok := e.values[name]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[i : i+end+1])
				if missing == "" {
					missing = name
				}
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String(), missing
}

func (e *Env) expandAll(list []string) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = e.Expand(s)
	}
	return out
}

// SubPath is the path below the volume that a mount asks for, "" for the whole volume.
func (e *Env) SubPath(m *corev1.VolumeMount) (string, error) {
	if m.SubPathExpr == "" {
		return m.SubPath, nil
	}
	path, missing := e.expand(m.SubPathExpr)
	if missing != "" {
		return "", errs.New(errs.Invalid, "missing value for %q", missing)
	}
	return path, nil
}

// serviceVars are the variables that tell a container about services, sorted by name: those of its namespace if it wants
// them, and the API server always.
func serviceVars(p *corev1.Pod, src Sources) iter.Seq2[string, string] {
	vars := map[string]string{}
	for s := range src.Services(corev1.NamespaceDefault) {
		if s.Name == "kubernetes" {
			addService(vars, s)
		}
	}
	if p.Spec.EnableServiceLinks == nil || *p.Spec.EnableServiceLinks {
		for s := range src.Services(p.Namespace) {
			addService(vars, s)
		}
	}
	return func(yield func(string, string) bool) {
		for _, k := range slices.Sorted(maps.Keys(vars)) {
			if !yield(k, vars[k]) {
				return
			}
		}
	}
}

func addService(vars map[string]string, s *corev1.Service) {
	ip := s.Spec.ClusterIP
	if ip == "" || ip == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	name := func(x string) string { return strings.ToUpper(strings.ReplaceAll(x, "-", "_")) }
	svc := name(s.Name)
	vars[svc+"_SERVICE_HOST"] = ip
	for i, port := range s.Spec.Ports {
		number := strconv.Itoa(int(port.Port))
		proto := string(port.Protocol)
		if proto == "" {
			proto = "TCP"
		}
		url := strings.ToLower(proto) + "://" + net.JoinHostPort(ip, number)
		if i == 0 {
			vars[svc+"_SERVICE_PORT"], vars[svc+"_PORT"] = number, url
		}
		if port.Name != "" {
			vars[svc+"_SERVICE_PORT_"+name(port.Name)] = number
		}
		prefix := svc + "_PORT_" + number + "_" + strings.ToUpper(proto)
		vars[prefix], vars[prefix+"_PROTO"], vars[prefix+"_PORT"], vars[prefix+"_ADDR"] = url, strings.ToLower(proto), number, ip
	}
}
