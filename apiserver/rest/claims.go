// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/store"
)

// A claim is a key that says who holds something of which there is only one: a Service's address or node port. It is
// written and deleted in the transaction that writes and deletes its holder, under the condition that it is free. So the
// two always agree, after any crash and with any number of API servers; nothing is repaired later.
//
//	/registry/knarr/addresses/10.43.0.17   the key of the Service that has the address
//	/registry/knarr/nodeports/TCP/30080
const (
	claimAddress = "/registry/knarr/addresses/"
	claimPort    = "/registry/knarr/nodeports/"
)

// Services says where Services get their addresses and ports from.
type Services struct {
	CIDR                netip.Prefix
	FirstPort, LastPort int32
}

// reserved are the first addresses of the range: the network's, that of the Service kubernetes (1), cluster DNS (10) and
// room for more of their kind; they are given only to who asks for them by number.
const reserved = 16

// claims lists the keys an object holds.
func claims(o kinds.Object) []string {
	s, ok := o.(*corev1.Service)
	if !ok || s == nil {
		return nil
	}
	var keys []string
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		for _, ip := range s.Spec.ClusterIPs {
			if ip != "" && ip != corev1.ClusterIPNone {
				keys = append(keys, claimAddress+ip)
			}
		}
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			keys = append(keys, portKey(p.Protocol, p.NodePort))
		}
	}
	if s.Spec.HealthCheckNodePort != 0 {
		keys = append(keys, portKey(corev1.ProtocolTCP, s.Spec.HealthCheckNodePort))
	}
	return keys
}

func portKey(protocol corev1.Protocol, port int32) string {
	return claimPort + string(protocol) + "/" + strconv.Itoa(int(port))
}

// claimed says what a change from old to next does to the claims; either may be nil.
func claimed(old, next kinds.Object) (conds []store.Cond, ops []store.Op) {
	had, want := claims(old), claims(next)
	for _, k := range want {
		if !slices.Contains(had, k) {
			conds = append(conds, store.Cond{Key: k})
			ops = append(ops, store.Op{Key: k, Value: []byte(kinds.Of(next).Key(next.GetNamespace(), next.GetName()))})
		}
	}
	for _, k := range had {
		if !slices.Contains(want, k) {
			ops = append(ops, store.Op{Key: k, Delete: true})
		}
	}
	return conds, ops
}

// claimLost says what to do when a claim was taken by somebody else: nil to choose anew, or the client's error when the
// claim is among those the client wished for.
func claimLost(r *Request, obj kinds.Object, wished []string, key string) error {
	s, ok := obj.(*corev1.Service)
	if !ok || !slices.Contains(wished, key) {
		return nil
	}
	if ip, ok := strings.CutPrefix(key, claimAddress); ok {
		return invalid(r, s.Name, field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs"), s.Spec.ClusterIPs,
			"failed to allocate IP "+ip+": provided IP is already allocated")})
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(key, claimPort), "/")
	list := field.ErrorList{}
	for i, p := range s.Spec.Ports {
		if strconv.Itoa(int(p.NodePort)) == port {
			list = append(list, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort, "provided port is already allocated"))
		}
	}
	return invalid(r, s.Name, list)
}

// allocate fills in what the server gives: a Service's addresses and node ports. What an update leaves empty keeps what it
// had, what it no longer may have is emptied. wished are the claims the object had before: what the client chose.
func (c *Core) allocate(obj, old kinds.Object) (wished []string, err error) {
	s, ok := obj.(*corev1.Service)
	if !ok || !c.Services.CIDR.IsValid() {
		return nil, nil
	}
	if was, ok := old.(*corev1.Service); ok {
		inherit(s, was)
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, nil
	}
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	wished = claims(s)
	return wished, c.fill(s)
}

func (c *Core) fill(s *corev1.Service) error {
	taken := c.taken()
	if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	if s.Spec.ClusterIP == "" {
		ip, err := c.freeAddress(taken)
		if err != nil {
			return err
		}
		s.Spec.ClusterIP = ip
	}
	if len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	families(s)
	if s.Spec.Type != corev1.ServiceTypeNodePort && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.AllocateLoadBalancerNodePorts != nil && !*s.Spec.AllocateLoadBalancerNodePorts {
		return nil
	}
	return c.nodePorts(s, taken)
}

// inherit keeps addresses and ports over an update that does not mention them.
func inherit(s, was *corev1.Service) {
	plain := func(t corev1.ServiceType) bool { return t != corev1.ServiceTypeExternalName }
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		if s.Spec.ClusterIP == was.Spec.ClusterIP {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		return
	}
	if plain(was.Spec.Type) && s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = was.Spec.ClusterIP, slices.Clone(was.Spec.ClusterIPs)
	}
	if s.Spec.Type == corev1.ServiceTypeClusterIP {
		for i := range s.Spec.Ports {
			if slices.ContainsFunc(was.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == s.Spec.Ports[i].NodePort }) {
				s.Spec.Ports[i].NodePort = 0
			}
		}
		return
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort != 0 {
			continue
		}
		for _, q := range was.Spec.Ports {
			if q.Protocol == p.Protocol && q.Port == p.Port && q.Name == p.Name {
				p.NodePort = q.NodePort
			}
		}
	}
}

func families(s *corev1.Service) {
	if len(s.Spec.IPFamilies) > 0 {
		return
	}
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	if ip, err := netip.ParseAddr(s.Spec.ClusterIP); err == nil && ip.Is6() {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	}
	if s.Spec.IPFamilyPolicy == nil {
		single := corev1.IPFamilyPolicySingleStack
		s.Spec.IPFamilyPolicy = &single
	}
}

func (c *Core) nodePorts(s *corev1.Service, taken map[string]bool) error {
	for _, k := range claims(s) {
		taken[k] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort != 0 {
			continue
		}
		// One number for TCP and UDP of one port, as DNS needs.
		for _, q := range s.Spec.Ports[:i] {
			if k := portKey(p.Protocol, q.NodePort); q.Port == p.Port && q.Protocol != p.Protocol && !taken[k] {
				p.NodePort = q.NodePort
			}
		}
		if p.NodePort == 0 {
			port, err := c.freePort(p.Protocol, taken)
			if err != nil {
				return err
			}
			p.NodePort = port
		}
		taken[portKey(p.Protocol, p.NodePort)] = true
	}
	return nil
}

// taken are the claims of the snapshot: only a hint where to look, the transaction decides.
func (c *Core) taken() map[string]bool {
	taken := map[string]bool{}
	for s := range cache.List[corev1.Service](c.Cache.Snapshot(), "") {
		for _, k := range claims(s) {
			taken[k] = true
		}
	}
	return taken
}

// freeAddress tries random addresses, then all in order.
func (c *Core) freeAddress(taken map[string]bool) (string, error) {
	size := 1 << min(16, c.Services.CIDR.Addr().BitLen()-c.Services.CIDR.Bits())
	low := min(reserved, size/4)
	n := size - 1 - low // without the last, a broadcast address
	start := rand.IntN(max(n, 1))
	for i := range n {
		ip := addr(c.Services.CIDR, low+(start+i)%n).String()
		if !taken[claimAddress+ip] {
			taken[claimAddress+ip] = true
			return ip, nil
		}
	}
	return "", errs.New(errs.Unavailable, "every cluster IP of %s is in use", c.Services.CIDR)
}

func (c *Core) freePort(protocol corev1.Protocol, taken map[string]bool) (int32, error) {
	n := c.Services.LastPort - c.Services.FirstPort + 1
	start := rand.Int32N(max(n, 1))
	for i := range n {
		port := c.Services.FirstPort + (start+i)%n
		if !taken[portKey(protocol, port)] {
			return port, nil
		}
	}
	return 0, errs.New(errs.Unavailable, "every node port of %d-%d is in use", c.Services.FirstPort, c.Services.LastPort)
}

// addr is the nth address of a range.
func addr(p netip.Prefix, n int) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		n += int(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// Address is the nth address of the service range.
func (s Services) Address(n int) netip.Addr { return addr(s.CIDR, n) }

// faults are what is wrong with the numbers a client chose.
func (s Services) faults(o kinds.Object) field.ErrorList {
	svc, ok := o.(*corev1.Service)
	if !ok || !s.CIDR.IsValid() {
		return nil
	}
	var list field.ErrorList
	for i, text := range svc.Spec.ClusterIPs {
		ip, err := netip.ParseAddr(text)
		if err == nil && !s.CIDR.Contains(ip) {
			list = append(list, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), text,
				fmt.Sprintf("failed to allocate IP %s: the provided IP (%s) is not in the valid range. The range of valid IPs is %s", text, text, s.CIDR)))
		}
	}
	for i, p := range svc.Spec.Ports {
		if p.NodePort != 0 && (p.NodePort < s.FirstPort || p.NodePort > s.LastPort) {
			list = append(list, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort,
				fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", s.FirstPort, s.LastPort)))
		}
	}
	return list
}
