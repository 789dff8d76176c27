// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/kubelet/volume"
)

func ptr[T any](v T) *T { return &v }

type fakeSources struct {
	maps     map[string]map[string]string
	services []*corev1.Service
}

func (s fakeSources) ConfigMap(_, name string) (*corev1.ConfigMap, bool) {
	d, ok := s.maps[name]
	return &corev1.ConfigMap{Data: d}, ok
}

func (s fakeSources) Secret(_, name string) (*corev1.Secret, bool) {
	d, ok := s.maps[name]
	b := map[string][]byte{}
	for k, v := range d {
		b[k] = []byte(v)
	}
	return &corev1.Secret{Data: b}, ok
}

func (s fakeSources) Services(ns string) iter.Seq[*corev1.Service] {
	return func(yield func(*corev1.Service) bool) {
		for _, x := range s.services {
			if x.Namespace == ns && !yield(x) {
				return
			}
		}
	}
}

func svc(ns, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
}

func testNode() *Node {
	return &Node{Name: "n1", Hostname: "host1", ClusterDNS: []string{"10.43.0.10"}, ClusterDomain: "cluster.local", LogDir: "/logs",
		Resolv: podruntime.DNS{Servers: []string{"192.0.2.1"}, Searches: []string{"lan"}, Options: []string{"edns0"}}, HostsFile: []byte("127.0.0.1 host1\n"),
		Capacity: corev1.ResourceList{"memory": resource.MustParse("10Gi")}, Allocatable: corev1.ResourceList{"memory": resource.MustParse("9Gi")}}
}

func testPod() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "U1"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "img"}}}}
}

func TestEnvironment(t *testing.T) {
	src := fakeSources{maps: map[string]map[string]string{"cfg": {"A": "cfg-a", "B": "cfg-b", "bad=key": "x"}, "sec": {"S": "s3cret"}}, services: []*corev1.Service{
		svc("default", "kubernetes", "10.43.0.1", corev1.ServicePort{Port: 443, Name: "https"}), svc("default", "other", "10.43.0.2", corev1.ServicePort{Port: 1}),
		svc("shop", "my-db", "10.43.0.3", corev1.ServicePort{Port: 5432}, corev1.ServicePort{Port: 53, Protocol: "UDP", Name: "dns-udp"}), svc("shop", "headless", "None", corev1.ServicePort{Port: 1})}}
	p := testPod()
	c := &p.Spec.Containers[0]
	c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}},
		{Prefix: "P_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}}},
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: ptr(true)}}}
	c.Env = []corev1.EnvVar{
		{Name: "A", Value: "own"}, {Name: "REF", Value: "$(A)-$(B)-$(LATER)-$$(A)-$(MY_DB_SERVICE_HOST)-$("}, {Name: "LATER", Value: "l"},
		{Name: "KEY", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "B"}}},
		{Name: "NONE", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "x", Optional: ptr(true)}}},
		{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Gi")}}},
	}
	e, err := MakeEnv(p, c, testNode(), src)
	if err != nil {
		t.Fatal(err)
	}
	got := e.List()
	for _, want := range []string{"HOSTNAME=web", "A=own", "B=cfg-b", "P_S=s3cret", "REF=own-cfg-b-$(LATER)-$(A)-10.43.0.3-$(", "LATER=l", "KEY=cfg-b", "MEM=9",
		"KUBERNETES_SERVICE_HOST=10.43.0.1", "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_SERVICE_PORT_HTTPS=443", "KUBERNETES_PORT=tcp://10.43.0.1:443",
		"MY_DB_SERVICE_PORT=5432", "MY_DB_PORT_53_UDP=udp://10.43.0.3:53", "MY_DB_PORT_53_UDP_ADDR=10.43.0.3", "MY_DB_SERVICE_PORT_DNS_UDP=53"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
	for _, kv := range got {
		for _, bad := range []string{"OTHER_", "HEADLESS_", "NONE=", "bad"} {
			if strings.HasPrefix(kv, bad) {
				t.Errorf("%s should not be there", kv)
			}
		}
	}
	if !slices.Equal(e.Skipped, []string{"bad=key"}) {
		t.Errorf("skipped %q", e.Skipped)
	}
	p.Spec.EnableServiceLinks = ptr(false)
	e, _ = MakeEnv(p, c, testNode(), src)
	if got := strings.Join(e.List(), " "); strings.Contains(got, " MY_DB") || !strings.Contains(got, "KUBERNETES_SERVICE_HOST") {
		t.Errorf("without service links: %s", got)
	}
	if path, err := e.SubPath(&corev1.VolumeMount{SubPathExpr: "x/$(A)"}); err != nil || path != "x/own" {
		t.Errorf("subPathExpr: %q %v", path, err)
	}
	if _, err := e.SubPath(&corev1.VolumeMount{SubPathExpr: "$(NOPE)"}); !errors.Is(err, errs.Invalid) {
		t.Errorf("subPathExpr with an unknown name: %v", err)
	}
}

func TestMissingSourcesAreSaidAsKubernetesSaysThem(t *testing.T) {
	src := fakeSources{maps: map[string]map[string]string{"cfg": {}}}
	ref := corev1.LocalObjectReference{Name: "no"}
	cfg := corev1.LocalObjectReference{Name: "cfg"}
	for want, c := range map[string]corev1.Container{
		`configmap "no" not found`:                  {EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref}}}},
		`secret "no" not found`:                     {Env: []corev1.EnvVar{{Name: "x", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref, Key: "k"}}}}},
		"couldn't find key k in ConfigMap shop/cfg": {Env: []corev1.EnvVar{{Name: "x", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: cfg, Key: "k"}}}}},
		"couldn't find key k in Secret shop/cfg":    {Env: []corev1.EnvVar{{Name: "x", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: cfg, Key: "k"}}}}},
	} {
		if _, err := MakeEnv(testPod(), &c, testNode(), src); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// input is a container to be made, with one change.
func input(change func(p *corev1.Pod, c *corev1.Container, in *Input)) Input {
	p := testPod()
	in := Input{Pod: p, Spec: &p.Spec.Containers[0], Node: testNode(), Start: lifecycle.StartContainer{Kind: lifecycle.Main, Container: "c", Attempt: 2},
		Sandbox: podruntime.Sandbox{ID: "u1-0"}, Env: &Env{}, Image: podruntime.Image{ID: "sha256:x"}}
	change(p, in.Spec, &in)
	return in
}

// GO-2025-3528, GO-2026-5378, CVE-2019-11245: whoever must not be root is not.
func TestRunAsNonRoot(t *testing.T) {
	for _, x := range []struct {
		image string
		uid   *int64
		ok    bool
		want  string
	}{
		{"1000", nil, true, ""}, {"1000:0", nil, true, ""}, {"root", ptr(int64(5)), true, ""},
		{"", nil, false, "image will run as root"}, {"0", nil, false, "image will run as root"}, {"0:0", nil, false, "image will run as root"}, {"00", nil, false, "image will run as root"},
		{"web", nil, false, "non-numeric user (web)"}, {"root", nil, false, "non-numeric user (root)"},
		{"4294967296", nil, false, "not between"}, {"4294967295", nil, false, "not between"}, {"18446744073709551616", nil, false, "not between"}, {"-1", nil, false, "not between"}, {"+0", nil, false, "not between"},
		{"1000", ptr(int64(0)), false, "breaks non-root policy"},
	} {
		in := input(func(p *corev1.Pod, c *corev1.Container, in *Input) {
			in.Image.User = x.image
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr(true), RunAsUser: x.uid}
		})
		_, err := Container(in)
		if (err == nil) != x.ok || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("USER %q, runAsUser %v: %v", x.image, x.uid, err)
		}
	}
}

func TestUser(t *testing.T) {
	for _, x := range []struct {
		image    string
		uid, gid *int64
		want     string
		ok       bool
	}{
		{"web", nil, nil, "", true}, {"web", ptr(int64(7)), nil, "7", true}, {"web", ptr(int64(7)), ptr(int64(8)), "7:8", true},
		{"web:x", nil, ptr(int64(8)), "web:8", true}, {"", nil, ptr(int64(8)), "0:8", true}, {"", ptr(int64(4294967296)), nil, "", false}, {"", nil, ptr(int64(-1)), "", false},
	} {
		got, err := user(input(func(p *corev1.Pod, c *corev1.Container, in *Input) {
			in.Image.User = x.image
			c.SecurityContext = &corev1.SecurityContext{RunAsUser: x.uid, RunAsGroup: x.gid}
		}))
		if got != x.want || (err == nil) != x.ok {
			t.Errorf("%+v: %q, %v", x, got, err)
		}
	}
}

// CVE-2023-2431: a profile that is empty or not known must not end unconfined.
func TestSeccompFailsClosed(t *testing.T) {
	for _, x := range []struct {
		p             *corev1.SeccompProfile
		profile, file string
		ok            bool
	}{
		{nil, "", "", true},
		{&corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}, "", "", true},
		{&corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}, Unconfined, "", true},
		{&corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr("a/b.json")}, "", "a/b.json", true},
		{&corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}, "", "", false},
		{&corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr("")}, "", "", false},
		{&corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr("../x")}, "", "", false},
		{&corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr("/etc/x")}, "", "", false},
		{&corev1.SeccompProfile{Type: "Lax"}, "", "", false},
		{&corev1.SeccompProfile{}, "", "", false},
	} {
		p := testPod()
		p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: x.p}
		profile, file, err := SeccompFile(p, &p.Spec.Containers[0])
		if profile != x.profile || file != x.file || (err == nil) != x.ok {
			t.Errorf("%+v: %q %q %v", x.p, profile, file, err)
		}
	}
}

// CVE-2022-0811: what is set is what was checked.
func TestSysctls(t *testing.T) {
	for _, x := range []struct {
		name, value string
		host, ok    bool
	}{
		{"net.ipv4.ip_local_port_range", "1024 65535", false, true}, {"net/ipv4/tcp_syncookies", "1", false, true},
		{"net.ipv4.tcp_syncookies", "1", true, false}, {"kernel.core_pattern", "x", false, false}, {"net.core.somaxconn", "1", false, false},
		{"net.ipv4.tcp_syncookies", "1+kernel.core_pattern=|/x", false, false}, {"net.ipv4.tcp_syncookies", "1\nkernel.core_pattern=x", false, false}, {"", "1", false, false},
	} {
		p := testPod()
		p.Spec.HostNetwork = x.host
		p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: x.name, Value: x.value}}}
		if _, err := Sandbox(p, testNode(), 0); (err == nil) != x.ok {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

func TestSecurityAndLabels(t *testing.T) {
	c, err := Container(input(func(p *corev1.Pod, c *corev1.Container, in *Input) {
		c.SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: ptr(false), ReadOnlyRootFilesystem: ptr(true),
			Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}}
		p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(9)), SupplementalGroups: []int64{5}}
	}))
	want := podruntime.Security{CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, NoNewPrivileges: true, ReadonlyRootfs: true}
	if err != nil || !reflect.DeepEqual(c.Security, want) || !slices.Equal(c.Groups, []int64{5, 9}) {
		t.Errorf("%+v, %v", c, err)
	}
	if c.Name != "k8s_c_web_shop_U1_2" || c.LogPath != "/logs/shop_web_U1/c/2.log" || c.Labels[podruntime.LabelAttempt] != "2" || c.Labels[podruntime.LabelPodUID] != "U1" || c.Labels[podruntime.LabelGrace] != "30" {
		t.Errorf("%+v", c)
	}
	if c, err := Container(input(func(_ *corev1.Pod, c *corev1.Container, _ *Input) {
		c.SecurityContext = &corev1.SecurityContext{Privileged: ptr(true)}
	})); err != nil || c.Security.Seccomp != Unconfined {
		t.Errorf("privileged: %+v, %v", c.Security, err)
	}
	if _, err := Container(input(func(_ *corev1.Pod, c *corev1.Container, _ *Input) {
		c.SecurityContext = &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost}}
	})); err == nil {
		t.Error("an AppArmor profile that is not enforced is accepted")
	}
}

func list(kv ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(kv); i += 2 {
		l[corev1.ResourceName(kv[i])] = resource.MustParse(kv[i+1])
	}
	return l
}

func TestCgroupNumbers(t *testing.T) {
	for _, x := range []struct {
		req, lim corev1.ResourceList
		parent   string
		shares   uint64
		quota    int64
		memory   int64
		oom      int
	}{
		{nil, nil, "kubepods/besteffort/podu1", 2, 0, 0, 1000},
		{list("cpu", "500m", "memory", "1Gi"), nil, "kubepods/burstable/podu1", 512, 0, 0, 900},
		{list("cpu", "1m", "memory", "1"), nil, "kubepods/burstable/podu1", 2, 0, 0, 999},
		{nil, list("cpu", "2", "memory", "64Mi"), "kubepods/podu1", 2048, 200000, 64 << 20, -997},
		{list("cpu", "250m", "memory", "10Gi"), list("cpu", "1m"), "kubepods/burstable/podu1", 256, 1000, 0, 3},
		{list("cpu", "1", "memory", "1Gi"), list("cpu", "1", "memory", "1Gi"), "kubepods/podu1", 1024, 100000, 1 << 30, -997},
	} {
		c, err := Container(input(func(_ *corev1.Pod, c *corev1.Container, _ *Input) {
			c.Resources = corev1.ResourceRequirements{Requests: maps.Clone(x.req), Limits: x.lim}
		}))
		r := c.Resources
		if err != nil || c.CgroupParent != x.parent || r.CPUShares != x.shares || r.CPUQuota != x.quota || r.Memory != x.memory || *r.OOMScoreAdj != x.oom {
			t.Errorf("%v %v: %s %+v oom %d, %v", x.req, x.lim, c.CgroupParent, r, *r.OOMScoreAdj, err)
		}
	}
	p := testPod()
	p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("cpu", "1"), Limits: list("cpu", "1", "memory", "1Mi")}},
		{Resources: corev1.ResourceRequirements{Limits: list("memory", "2Mi")}}}
	if r := podResources(p); r.CPUShares != 1024 || r.CPUQuota != 0 || r.Memory != 3<<20 {
		t.Errorf("pod: %+v", r)
	}
}

func TestDNS(t *testing.T) {
	cluster := podruntime.DNS{Servers: []string{"10.43.0.10"}, Searches: []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"}, Options: []string{"ndots:5"}}
	host := testNode().Resolv
	for _, x := range []struct {
		policy corev1.DNSPolicy
		host   bool
		config *corev1.PodDNSConfig
		want   podruntime.DNS
	}{
		{"", false, nil, cluster}, {corev1.DNSClusterFirst, false, nil, cluster}, {corev1.DNSClusterFirst, true, nil, host},
		{corev1.DNSClusterFirstWithHostNet, true, nil, cluster}, {corev1.DNSDefault, false, nil, host},
		{corev1.DNSNone, false, &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"x"}, Options: []corev1.PodDNSConfigOption{{Name: "rotate"}}},
			podruntime.DNS{Servers: []string{"1.1.1.1"}, Searches: []string{"x"}, Options: []string{"rotate"}}},
		{corev1.DNSDefault, false, &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("2")}, {Name: "edns0"}}},
			podruntime.DNS{Servers: []string{"192.0.2.1", "2.2.2.2", "3.3.3.3"}, Searches: []string{"lan"}, Options: []string{"ndots:2", "edns0"}}},
	} {
		p := testPod()
		p.Spec.DNSPolicy, p.Spec.HostNetwork, p.Spec.DNSConfig = x.policy, x.host, x.config
		if got := DNS(p, testNode()); !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s %v: %+v", x.policy, x.host, got)
		}
	}
}

func TestParseResolv(t *testing.T) {
	got := ParseResolv([]byte("# c\nnameserver 1.1.1.1\nsearch a b\nnameserver ::1\noptions ndots:1 rotate\nsearch c\nnameserver\n"))
	want := podruntime.DNS{Servers: []string{"1.1.1.1", "::1"}, Searches: []string{"c"}, Options: []string{"ndots:1", "rotate"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestHostnameAndHosts(t *testing.T) {
	p := testPod()
	p.Spec.Hostname, p.Spec.Subdomain = "db-0", "db"
	if h := string(Hosts(p, testNode(), []string{"10.42.0.2"})); !strings.Contains(h, "10.42.0.2\tdb-0.db.shop.svc.cluster.local\tdb-0\n") {
		t.Error(h)
	}
	p.Spec.SetHostnameAsFQDN = ptr(true)
	if h := Hostname(p, testNode()); h != "db-0.db.shop.svc.cluster.local" {
		t.Error(h)
	}
	p = testPod()
	p.Name = strings.Repeat("a", 62) + "-b"
	if h := Hostname(p, testNode()); h != strings.Repeat("a", 62) {
		t.Error(h)
	}
	p.Spec.HostNetwork = true
	if h := string(Hosts(p, testNode(), nil)); Hostname(p, testNode()) != "host1" || !strings.Contains(h, "127.0.0.1 host1") {
		t.Error(h)
	}
}

func TestMounts(t *testing.T) {
	bi := corev1.MountPropagationBidirectional
	privileged := &corev1.Container{SecurityContext: &corev1.SecurityContext{Privileged: ptr(true)}}
	if _, err := Mount(&corev1.Container{}, &corev1.VolumeMount{MountPropagation: &bi}, volume.Result{}, "/x"); !errors.Is(err, errs.Denied) {
		t.Errorf("Bidirectional without privilege: %v", err)
	}
	if m, err := Mount(privileged, &corev1.VolumeMount{MountPath: "a/", MountPropagation: &bi}, volume.Result{ReadOnly: true}, "/x"); err != nil || m.Propagation != "rshared" || m.Target != "/a" || !m.ReadOnly {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$(A)", "$$(A)", "$(", "$(A", "$", "$)", "a$(B)c$(A)$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := &Env{values: map[string]string{"A": "x"}}
		got := e.Expand(s)
		if !strings.Contains(s, "$") && got != s {
			t.Errorf("%q became %q", s, got)
		}
		if plain := strings.ReplaceAll(s, "$", ""); len(plain) == len(s) && fmt.Sprint(plain) != got {
			t.Errorf("%q became %q", s, got)
		}
	})
}
