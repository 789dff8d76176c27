// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// The subresources that hand a request on to somebody else: to the kubelet of a pod's node (log, exec, attach,
// portforward), or to what a pod, a Service or a node serves (proxy).

// connect finds the handler of a subresource that is not data but a connection.
func (s *Server) connect(c call) (func(http.ResponseWriter, *http.Request, call) error, bool) {
	if c.t.Group != "" || c.name == "" {
		return nil, false
	}
	switch c.t.Plural + "/" + c.subresource {
	case "pods/log":
		return s.serveLog, true
	case "pods/exec", "pods/attach":
		return s.serveExec, true
	case "pods/portforward":
		return s.servePortForward, true
	case "pods/proxy", "services/proxy", "nodes/proxy":
		return s.serveProxy, true
	}
	return nil, false
}

// pod reads the pod of a call as it is now.
func (s *Server) pod(r *http.Request, c call) (*corev1.Pod, error) {
	e, ok, err := s.core.Find(r.Context(), kinds.For[corev1.Pod](), c.namespace, c.name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, apierrors.NewNotFound(c.gvr.GroupResource(), c.name)
	}
	return e.Object.(*corev1.Pod), nil
}

// container is the one a client means: the one it named, or the only one.
func container(pod *corev1.Pod, name string) (string, error) {
	var names, all []string
	for _, k := range pod.Spec.Containers {
		names = append(names, k.Name)
	}
	all = append(all, names...)
	for _, k := range pod.Spec.InitContainers {
		all = append(all, k.Name)
	}
	for _, k := range pod.Spec.EphemeralContainers {
		all = append(all, k.Name)
	}
	if name == "" {
		if len(names) == 1 {
			return names[0], nil
		}
		text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " "))
		if n := len(pod.Spec.InitContainers); n > 0 {
			text += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(all[len(names):len(names)+n], " "))
		}
		return "", apierrors.NewBadRequest(text)
	}
	if !slices.Contains(all, name) {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	return name, nil
}

// logParams are handed on to the kubelet; others are not.
var logParams = [...]string{"follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"}

func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, c call) error {
	if r.Method != http.MethodGet {
		return apierrors.NewMethodNotSupported(c.gvr.GroupResource(), c.verb)
	}
	pod, err := s.pod(r, c)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := checkLog(q); err != nil {
		return err
	}
	name, err := container(pod, q.Get("container"))
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusOK) // nothing has run: nothing was written
		return nil
	}
	out := url.Values{}
	for _, k := range logParams {
		if v, ok := q[k]; ok {
			out[k] = v
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	return s.toKubelet(w, r, c, pod.Spec.NodeName, "/containerLogs/"+pod.Namespace+"/"+pod.Name+"/"+name, out)
}

func checkLog(q url.Values) error {
	for _, k := range []string{"sinceSeconds", "tailLines", "limitBytes"} {
		text := q.Get(k)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("%s: Invalid value: %q: must be a number", k, text))
		}
		if n < 0 || n == 0 && k != "tailLines" {
			return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "get", corev1.Resource("pods"), "",
				fmt.Sprintf("PodLogOptions \"\" is invalid: %s: Invalid value: %d: must be greater than 0", k, n), 0, true)
		}
	}
	if q.Get("sinceSeconds") != "" && q.Get("sinceTime") != "" {
		return apierrors.NewBadRequest("at most one of sinceTime or sinceSeconds may be specified")
	}
	return nil
}

func (s *Server) serveExec(w http.ResponseWriter, r *http.Request, c call) error {
	pod, err := s.running(r, c)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	name, err := container(pod, q.Get("container"))
	if err != nil {
		return err
	}
	out := url.Values{}
	for key, as := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if yes, err := strconv.ParseBool(q.Get(key)); err == nil && yes {
			out.Set(as, "1")
		}
	}
	if !out.Has("input") && !out.Has("output") && !out.Has("error") {
		return apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	if c.subresource == "exec" {
		if len(q["command"]) == 0 {
			return apierrors.NewBadRequest("you must specify at least one command for the container")
		}
		out["command"] = q["command"]
	}
	path := "/" + c.subresource + "/" + pod.Namespace + "/" + pod.Name + "/" + name
	if translating(r) {
		return s.translate(w, r, c, pod.Spec.NodeName, path, out)
	}
	return s.toKubelet(w, r, c, pod.Spec.NodeName, path, out)
}

// running is a pod that has a node.
func (s *Server) running(r *http.Request, c call) (*corev1.Pod, error) {
	pod, err := s.pod(r, c)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot exec into a container in a completed pod; current phase is %s", pod.Status.Phase))
	}
	return pod, nil
}

func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request, c call) error {
	pod, err := s.running(r, c)
	if err != nil {
		return err
	}
	out := url.Values{}
	if v, ok := r.URL.Query()["ports"]; ok {
		out["port"] = v
	}
	if tunnelled(r) {
		return s.tunnel(w, r, c, pod)
	}
	return s.toKubelet(w, r, c, pod.Spec.NodeName, "/portForward/"+pod.Namespace+"/"+pod.Name, out)
}

func (s *Server) serveProxy(w http.ResponseWriter, r *http.Request, c call) error {
	scheme, name, port, ok := splitTarget(c.name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", strings.TrimSuffix(c.t.Plural, "s"), c.name))
	}
	path := c.rest
	if path == "" {
		path = "/"
	}
	if c.t.Plural == "nodes" {
		b, err := s.kubelet(name)
		if err != nil {
			return err
		}
		return s.handOn(w, r, b, path, r.URL.Query(), proxied(c))
	}
	find := s.podAddress
	if c.t.Plural == "services" {
		find = s.serviceAddress
	}
	host, err := find(r, c, name, port)
	if err != nil {
		return err
	}
	b := Backend{URL: &url.URL{Scheme: scheme, Host: host}}
	return s.handOn(w, r, b, path, r.URL.Query(), proxied(c))
}

// splitTarget reads scheme:name:port, where scheme and port may be missing.
func splitTarget(id string) (scheme, name, port string, ok bool) {
	parts := strings.Split(id, ":")
	scheme = "http"
	switch len(parts) {
	case 1:
		name = parts[0]
	case 2:
		name, port = parts[0], parts[1]
	case 3:
		scheme, name, port = parts[0], parts[1], parts[2]
		if scheme == "" {
			scheme = "http"
		}
	default:
		return "", "", "", false
	}
	return scheme, name, port, (scheme == "http" || scheme == "https") && len(validation.IsDNS1123Subdomain(name)) == 0
}

func (s *Server) podAddress(r *http.Request, c call, name, port string) (string, error) {
	c.name = name
	pod, err := s.pod(r, c)
	if err != nil {
		return "", err
	}
	if pod.Status.PodIP == "" {
		return "", apierrors.NewBadRequest("address not allowed: the pod has no address yet")
	}
	if port == "" {
		for _, k := range pod.Spec.Containers {
			if len(k.Ports) > 0 && port == "" {
				port = strconv.Itoa(int(k.Ports[0].ContainerPort))
			}
		}
	}
	if port == "" {
		port = "80"
	}
	return joinPort(pod.Status.PodIP, port)
}

// serviceAddress picks a ready endpoint of a Service's port.
func (s *Server) serviceAddress(_ *http.Request, c call, name, port string) (string, error) {
	snapshot := s.cache.Snapshot()
	service, ok := cache.Get[corev1.Service](snapshot, c.namespace, name)
	if !ok {
		return "", apierrors.NewNotFound(c.gvr.GroupResource(), name)
	}
	wanted := -1
	for i, p := range service.Spec.Ports {
		if p.Name == port && port != "" || strconv.Itoa(int(p.Port)) == port || port == "" && len(service.Spec.Ports) == 1 {
			wanted = i
			break
		}
	}
	if wanted < 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, name))
	}
	for slice := range cache.List[discoveryv1.EndpointSlice](snapshot, c.namespace) {
		if slice.Labels[discoveryv1.LabelServiceName] != name {
			continue
		}
		if host, ok := readyEndpoint(slice, service.Spec.Ports[wanted].Name); ok {
			return host, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
}

// webhookAddress is where a webhook's Service is served: a ready endpoint, so that no rules of this machine are needed.
func (s *Server) webhookAddress(namespace, name string, port int32) (string, error) {
	t := kinds.For[corev1.Service]()
	c := call{route: route{namespace: namespace, name: name, gvr: t.Resource()}, t: t}
	return s.serviceAddress(nil, c, name, strconv.Itoa(int(port)))
}

func readyEndpoint(slice *discoveryv1.EndpointSlice, portName string) (string, bool) {
	for _, p := range slice.Ports {
		if p.Port == nil || (p.Name == nil && portName != "") || (p.Name != nil && *p.Name != portName) {
			continue
		}
		for _, e := range slice.Endpoints {
			if (e.Conditions.Ready == nil || *e.Conditions.Ready) && len(e.Addresses) > 0 {
				host, err := joinPort(e.Addresses[0], strconv.Itoa(int(*p.Port)))
				return host, err == nil
			}
		}
	}
	return "", false
}
