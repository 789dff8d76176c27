// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 Endpoints are deprecated upstream, and still served and made

package apiserver

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// ownObject is an object the server needs, and how to mend one that is there already: amend writes to a copy.
type ownObject struct {
	want  kinds.Object
	amend func(have kinds.Object)
}

// self is who writes the server's own objects.
func self() auth.User {
	return auth.User{Name: "system:apiserver", Groups: []string{auth.Masters, auth.Authenticated}}
}

// upkeep makes the server's own objects, says that it is ready, and makes again what somebody removes.
func (s *Server) upkeep(ctx context.Context) error {
	select {
	case <-s.cache.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	from := s.cache.Snapshot().Revision()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := s.bootstrap(ctx)
		if err == nil {
			break
		}
		s.log.Warn("write the server's own objects; trying again", "err", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// Whoever asks a ready server may rely on the roles: the cache, which authorisers read, must have them.
	if _, err := s.newest(ctx); err != nil {
		s.log.Warn("see the server's own objects; going on", "err", err)
	}
	close(s.ready)
	s.log.Info("API server ready", "url", s.URL(), "rev", s.cache.Snapshot().Revision())
	for ctx.Err() == nil {
		s.keep(ctx, from)
		from = s.cache.Snapshot().Revision()
	}
	return ctx.Err()
}

// keep watches until the watch ends, and mends what of the server's own objects was deleted.
func (s *Server) keep(ctx context.Context, from int64) {
	for change, err := range s.cache.WatchAll(ctx, from) {
		if err != nil {
			break // fell behind: everything is looked at below
		}
		if change.New != nil || change.Old == nil || !s.owns(change.Old) {
			continue
		}
		if err := s.bootstrap(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("restore the server's own objects", "err", err)
		}
	}
	if err := s.bootstrap(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("restore the server's own objects", "err", err)
	}
}

func (s *Server) owns(e *cache.Entry) bool {
	for _, o := range append(append(s.namespaces(), s.trust(), s.extensionTrust()), s.ownService()...) {
		if kinds.Of(o.want) == e.Type && o.want.GetName() == e.Object.GetName() && o.want.GetNamespace() == e.Object.GetNamespace() {
			return true
		}
	}
	return false
}

// bootstrap writes what is missing or not as it must be: the namespaces first, as others live in them.
func (s *Server) bootstrap(ctx context.Context) error {
	if err := s.ensureAll(ctx, s.namespaces()); err != nil {
		return err
	}
	return s.ensureAll(ctx, append(append(ownRoles(), s.trust(), s.extensionTrust()), s.ownService()...))
}

// ensureAll writes in parallel: the store puts what comes together into one fsync.
func (s *Server) ensureAll(ctx context.Context, list []ownObject) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for _, o := range list {
		g.Go(func() error { return s.ensure(ctx, o) })
	}
	return g.Wait()
}

func (s *Server) ensure(ctx context.Context, o ownObject) error {
	api := s.As(self())
	req := client.Request{Type: kinds.Of(o.want), Namespace: o.want.GetNamespace(), Name: o.want.GetName()}
	for {
		have, ok := s.cache.Snapshot().Get(req.Type, req.Namespace, req.Name)
		if !ok {
			req.Verb, req.Object = client.Create, o.want
			_, err := api.Do(ctx, req)
			if !errors.Is(err, errs.Exists) {
				return err
			}
		} else {
			next := have.Object.DeepCopyObject().(kinds.Object)
			o.amend(next)
			if equality.Semantic.DeepEqual(next, have.Object) {
				return nil
			}
			req.Verb, req.Object = client.Update, next
			_, err := api.Do(ctx, req)
			if !errors.Is(err, errs.Conflict) {
				return err
			}
		}
		// Somebody else was quicker; the cache will show it.
		_, _, rev, err := s.cfg.Store.Get(ctx, req.Type.Key(req.Namespace, req.Name))
		if err != nil {
			return err
		}
		if _, err := s.cache.Wait(ctx, rev); err != nil {
			return err
		}
	}
}

func (s *Server) namespaces() []ownObject {
	var list []ownObject
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		list = append(list, ownObject{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, func(kinds.Object) {}})
	}
	return list
}

// trust is the CA's certificate, from where controllers/rootca copies it into every namespace for the pods there.
func (s *Server) trust() ownObject {
	data := map[string]string{"ca.crt": string(s.authority.CA())}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: kinds.RootCA}, Data: data}
	return ownObject{m, func(have kinds.Object) { have.(*corev1.ConfigMap).Data = data }}
}

// extensionTrust is how aggregated API servers know whom to believe: who has a certificate of the cluster, and this server
// when it speaks for others.
func (s *Server) extensionTrust() ownObject {
	data := map[string]string{
		"client-ca-file":                     string(s.authority.CA()),
		"requestheader-client-ca-file":       string(s.authority.FrontProxyCA()),
		"requestheader-allowed-names":        `["` + auth.FrontProxyClient + `"]`,
		"requestheader-username-headers":     `["` + auth.RemoteUser + `"]`,
		"requestheader-uid-headers":          `["` + auth.RemoteUID + `"]`,
		"requestheader-group-headers":        `["` + auth.RemoteGroup + `"]`,
		"requestheader-extra-headers-prefix": `["` + auth.RemoteExtraPrefix + `"]`,
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: auth.ExtensionConfig}, Data: data}
	return ownObject{m, func(have kinds.Object) { have.(*corev1.ConfigMap).Data = data }}
}

func ownRoles() []ownObject {
	var list []ownObject
	role, binding := auth.ExtensionReader()
	list = append(list,
		ownObject{role, func(have kinds.Object) { have.(*rbacv1.Role).Rules = role.Rules }},
		ownObject{binding, func(kinds.Object) {}})
	for _, r := range auth.Roles() {
		list = append(list, ownObject{r, func(have kinds.Object) {
			h := have.(*rbacv1.ClusterRole)
			if h.Annotations[rbacv1.AutoUpdateAnnotationKey] == "false" {
				return
			}
			for _, rule := range r.Rules {
				if !slices.ContainsFunc(h.Rules, func(x rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(x, rule) }) {
					h.Rules = append(h.Rules, rule)
				}
			}
			h.AggregationRule = r.AggregationRule
			h.Labels = merged(h.Labels, r.Labels)
		}})
	}
	for _, b := range auth.Bindings() {
		list = append(list, ownObject{b, func(have kinds.Object) {
			h := have.(*rbacv1.ClusterRoleBinding)
			if h.Annotations[rbacv1.AutoUpdateAnnotationKey] == "false" {
				return
			}
			for _, x := range b.Subjects {
				if !slices.Contains(h.Subjects, x) {
					h.Subjects = append(h.Subjects, x)
				}
			}
		}})
	}
	return list
}

func merged(a, b map[string]string) map[string]string {
	if a == nil {
		a = map[string]string{}
	}
	for k, v := range b {
		a[k] = v
	}
	return a
}

// ownService is the Service kubernetes in default, by which pods reach the API, and where it leads.
func (s *Server) ownService() []ownObject {
	const name = "kubernetes"
	ip := s.cfg.serviceAddress(1).String()
	port := s.port()
	meta := metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault, Labels: map[string]string{"component": "apiserver", "provider": name}}
	ports := []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(port)}}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, SessionAffinity: corev1.ServiceAffinityNone, Ports: ports,
	}}
	endpointsMeta := *meta.DeepCopy()
	endpointsMeta.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	endpoints := &corev1.Endpoints{ObjectMeta: endpointsMeta}
	if s.reachable() {
		endpoints.Subsets = []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: s.cfg.AdvertiseIP.String()}},
			Ports:     []corev1.EndpointPort{{Name: "https", Port: port, Protocol: corev1.ProtocolTCP}},
		}}
	}
	slice := s.ownSlice(port)
	return []ownObject{
		{service, func(have kinds.Object) { have.(*corev1.Service).Spec.Ports = ports }},
		{endpoints, func(have kinds.Object) { have.(*corev1.Endpoints).Subsets = endpoints.Subsets }},
		{slice, func(have kinds.Object) {
			h := have.(*discoveryv1.EndpointSlice)
			h.Endpoints, h.Ports = slice.Endpoints, slice.Ports
		}},
	}
}

func (s *Server) ownSlice(port int32) *discoveryv1.EndpointSlice {
	ready, https, tcp := true, "https", corev1.ProtocolTCP
	family := discoveryv1.AddressTypeIPv4
	if s.cfg.AdvertiseIP.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		AddressType: family,
		Endpoints:   []discoveryv1.Endpoint{},
	}
	if s.reachable() {
		slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{s.cfg.AdvertiseIP.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}}
		slice.Ports = []discoveryv1.EndpointPort{{Name: &https, Port: &port, Protocol: &tcp}}
	}
	return slice
}

// reachable: a machine without a network has only loopback to advertise, which is another machine in each pod.
func (s *Server) reachable() bool { return !s.cfg.AdvertiseIP.IsLoopback() }

// port is the one that HTTPS is served on.
func (s *Server) port() int32 {
	addr := s.cfg.Listen
	if at := s.addr.Load(); at != nil {
		addr = at.secure
	}
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return int32(n)
}

// silent is where the events of the server's own controller go: its conditions say all.
type silent struct{}

func (silent) Event(kinds.Object, string, string, string) {}
