// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// The resolver's own bounds.
const (
	maxServers  = 3
	maxSearches = 32
)

// ParseResolv reads a resolv.conf.
func ParseResolv(b []byte) (d podruntime.DNS) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			d.Servers = append(d.Servers, f[1])
		case "search", "domain":
			d.Searches = f[1:]
		case "options":
			d.Options = append(d.Options, f[1:]...)
		}
	}
	return d
}

// DNS is a pod's resolv.conf by its dnsPolicy and dnsConfig.
func DNS(p *corev1.Pod, n *Node) podruntime.DNS {
	var d podruntime.DNS
	policy := p.Spec.DNSPolicy
	switch {
	case policy == corev1.DNSNone:
	case len(n.ClusterDNS) > 0 && (policy == corev1.DNSClusterFirstWithHostNet || policy != corev1.DNSDefault && !p.Spec.HostNetwork):
		d.Servers = slices.Clone(n.ClusterDNS)
		d.Searches = slices.Concat([]string{p.Namespace + ".svc." + n.ClusterDomain, "svc." + n.ClusterDomain, n.ClusterDomain}, n.Resolv.Searches)
		d.Options = []string{"ndots:5"}
	default:
		d = podruntime.DNS{Servers: slices.Clone(n.Resolv.Servers), Searches: slices.Clone(n.Resolv.Searches), Options: slices.Clone(n.Resolv.Options)}
	}
	if c := p.Spec.DNSConfig; c != nil {
		d.Servers = append(d.Servers, c.Nameservers...)
		d.Searches = append(d.Searches, c.Searches...)
		for _, o := range c.Options {
			d.Options = slices.DeleteFunc(d.Options, func(x string) bool { return x == o.Name || strings.HasPrefix(x, o.Name+":") })
			if o.Value != nil && *o.Value != "" {
				d.Options = append(d.Options, o.Name+":"+*o.Value)
			} else {
				d.Options = append(d.Options, o.Name)
			}
		}
	}
	d.Servers, d.Searches = unique(d.Servers), unique(d.Searches)
	d.Servers = d.Servers[:min(len(d.Servers), maxServers)]
	d.Searches = d.Searches[:min(len(d.Searches), maxSearches)]
	return d
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Hostname is what the pod calls itself.
func Hostname(p *corev1.Pod, n *Node) string {
	if p.Spec.HostNetwork {
		return n.Hostname
	}
	if p.Spec.HostnameOverride != nil {
		return *p.Spec.HostnameOverride
	}
	host := p.Spec.Hostname
	if host == "" {
		host = p.Name
	}
	host = host[:min(len(host), 63)]
	host = strings.TrimRight(host, "-.")
	if p.Spec.SetHostnameAsFQDN != nil && *p.Spec.SetHostnameAsFQDN && p.Spec.Subdomain != "" {
		return host + "." + domain(p, n)
	}
	return host
}

func domain(p *corev1.Pod, n *Node) string {
	return fmt.Sprintf("%s.%s.svc.%s", p.Spec.Subdomain, p.Namespace, n.ClusterDomain)
}

// Hosts is the pod's /etc/hosts.
func Hosts(p *corev1.Pod, n *Node, ips []string) []byte {
	var b bytes.Buffer
	if p.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(n.HostsFile)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		host := Hostname(p, n)
		for _, ip := range ips {
			if p.Spec.Subdomain != "" {
				short, _, _ := strings.Cut(host, ".")
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, short, domain(p, n), short)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, host)
			}
		}
	}
	if len(p.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range p.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return b.Bytes()
}

// hostPorts are the ports of a pod that the node publishes.
func hostPorts(p *corev1.Pod) []podruntime.HostPort {
	var out []podruntime.HostPort
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, port := range c.Ports {
			if port.HostPort == 0 {
				continue
			}
			hp := podruntime.HostPort{HostPort: uint16(port.HostPort), ContainerPort: uint16(port.ContainerPort), Protocol: string(port.Protocol)}
			if a, err := netip.ParseAddr(port.HostIP); err == nil && !a.IsUnspecified() {
				hp.HostIP = a
			}
			if hp.Protocol == "" {
				hp.Protocol = "TCP"
			}
			out = append(out, hp)
		}
	}
	return out
}
