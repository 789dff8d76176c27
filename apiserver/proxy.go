// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// serveProxy hands the whole request on to what a pod, a Service or a node serves.
func (s *Server) serveProxy(w http.ResponseWriter, r *http.Request, c call) error {
	scheme, name, port, ok := splitTarget(c.name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", strings.TrimSuffix(c.t.Plural, "s"), c.name))
	}
	if c.rest == "" && r.Header.Get("Upgrade") == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// Relative links of the page are below it only if its address ends with a slash.
		to := url.URL{Path: "/" + strings.Trim(r.URL.Path, "/") + "/", RawQuery: r.URL.RawQuery}
		w.Header().Set("Location", to.String())
		w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	path := c.rest
	if path == "" {
		path = "/"
	}
	// What the client made a moment ago is found.
	if _, err := s.newest(r.Context()); err != nil {
		return err
	}
	find := s.podAddress
	switch c.t.Plural {
	case "services":
		find = s.serviceAddress
	case "nodes":
		b, is, err := s.kubeletAt(name, port)
		if err != nil {
			return err
		}
		if is {
			return s.handOn(w, r, b, path, r.URL.Query(), proxied(c, ""))
		}
		find = s.nodeAddress
	}
	host, err := find(r, c, name, port)
	if err != nil {
		return err
	}
	b := Backend{URL: &url.URL{Scheme: scheme, Host: host}}
	if scheme == "https" {
		// What serves there has a name of its own, if any: its address is all that is known of it, and it is told nothing
		// that it could not have been told in the clear.
		b.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	}
	return s.handOn(w, r, b, path, r.URL.Query(), proxied(c, host))
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

// kubeletAt is the kubelet of a node, if that is what serves at port; no port means the kubelet.
func (s *Server) kubeletAt(name, port string) (b Backend, is bool, err error) {
	if port != "" {
		n, ok := cache.Get[corev1.Node](s.cache.Snapshot(), "", name)
		if !ok {
			return Backend{}, false, apierrors.NewNotFound(kinds.For[corev1.Node]().Resource().GroupResource(), name)
		}
		if port != strconv.Itoa(int(kubeletPort(n))) {
			return Backend{}, false, nil
		}
	}
	b, err = s.kubelet(name)
	return b, true, err
}

// kubeletPort is where a node's kubelet serves.
func kubeletPort(n *corev1.Node) int32 {
	if port := n.Status.DaemonEndpoints.KubeletEndpoint.Port; port != 0 {
		return port
	}
	return 10250
}

// nodeAddress is a port of a node that is not the kubelet's.
func (s *Server) nodeAddress(_ *http.Request, c call, name, port string) (string, error) {
	n, ok := cache.Get[corev1.Node](s.cache.Snapshot(), "", name)
	if !ok {
		return "", apierrors.NewNotFound(c.gvr.GroupResource(), name)
	}
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range n.Status.Addresses {
			if a.Type == want {
				return joinPort(a.Address, port)
			}
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has no address", name))
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
	return joinPort(pod.Status.PodIP, podPort(pod, port))
}

// podPort is the number of a port that may be given by name, or not at all: then it is the first that the pod has.
func podPort(pod *corev1.Pod, port string) string {
	for _, k := range pod.Spec.Containers {
		for _, p := range k.Ports {
			if port == "" || p.Name == port {
				return strconv.Itoa(int(p.ContainerPort))
			}
		}
	}
	if port == "" {
		return "80"
	}
	return port
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
	var hosts []string
	for slice := range cache.List[discoveryv1.EndpointSlice](snapshot, c.namespace) {
		if slice.Labels[discoveryv1.LabelServiceName] == name {
			hosts = append(hosts, readyEndpoints(slice, service.Spec.Ports[wanted].Name)...)
		}
	}
	if len(hosts) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	return hosts[rand.N(len(hosts))], nil
}

// webhookAddress is where a webhook's Service is served: a ready endpoint, so that no rules of this machine are needed.
func (s *Server) webhookAddress(namespace, name string, port int32) (string, error) {
	t := kinds.For[corev1.Service]()
	c := call{route: route{namespace: namespace, name: name, gvr: t.Resource()}, t: t}
	return s.serviceAddress(nil, c, name, strconv.Itoa(int(port)))
}

func readyEndpoints(slice *discoveryv1.EndpointSlice, portName string) []string {
	var hosts []string
	for _, p := range slice.Ports {
		if p.Port == nil || (p.Name == nil && portName != "") || (p.Name != nil && *p.Name != portName) {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			if host, err := joinPort(e.Addresses[0], strconv.Itoa(int(*p.Port))); err == nil {
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}
