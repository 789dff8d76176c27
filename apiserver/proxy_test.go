// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/knarr/knarr/apiserver"
)

// outside is an address of this machine that is not loopback: only such are proxied to.
func outside(t *testing.T) netip.Addr {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	t.Skip("this machine has no address but loopback's")
	return netip.Addr{}
}

// page is what the proxied servers serve: it tells what it was asked.
func page(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ws":
		up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
		if c, err := up.Upgrade(w, r, nil); err == nil {
			_ = c.WriteMessage(websocket.TextMessage, []byte("hello"))
			_ = c.Close()
		}
	case "/html":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<p><a href="/x?y=1">x</a><img src='pic.png'><a href="http://elsewhere/">e</a>`)
	case "/away":
		http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
	case "/here":
		http.Redirect(w, r, "/there", http.StatusFound)
	default:
		fmt.Fprintf(w, "%s %s auth=%q", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"))
	}
}

// listenAt serves page on an address, plainly or with a certificate that nobody knows.
func listenAt(t *testing.T, ip netip.Addr, secure bool) int {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(page))
	srv.Listener.Close()
	srv.Listener = l
	if secure {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return l.Addr().(*net.TCPAddr).Port
}

func TestProxy(t *testing.T) {
	ip := outside(t)
	plain, secure := listenAt(t, ip, false), listenAt(t, ip, true)
	s := withBackend(t, apiserver.Backend{Handler: http.HandlerFunc(page)})
	cs := clientset(t, s)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip.String()}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
	}}
	if _, err := cs.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := cs.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status.PodIP, p.Status.PodIPs = ip.String(), []corev1.PodIP{{IP: ip.String()}}
	if _, err := cs.CoreV1().Pods("default").UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}, {Name: "tls", Port: 443}}}}
	if _, err := cs.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	name := func(s string) *string { return &s }
	number := func(n int) *int32 { v := int32(n); return &v }
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{discoveryv1.LabelServiceName: "s"}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Name: name("web"), Port: number(plain)}, {Name: name("tls"), Port: number(secure)}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{ip.String()}}}}
	if _, err := cs.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	h, err := rest.HTTPClientFor(config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	do := func(method, path string) (int, string, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Error(err)
		}
		return res.StatusCode, string(b), res.Header.Get("Location")
	}
	const pods, services, nodes = "/api/v1/namespaces/default/pods/", "/api/v1/namespaces/default/services/", "/api/v1/nodes/"
	at := func(port int) string { return strconv.Itoa(port) }
	for path, want := range map[string]string{
		nodes + "n/proxy/pods":                                 `GET /pods auth=""`,
		nodes + "n:10250/proxy/pods/":                          `GET /pods/ auth=""`,
		nodes + "https:n:10250/proxy/":                         `GET / auth=""`,
		nodes + "n:" + at(plain) + "/proxy/a?b=c":              `GET /a?b=c auth=""`,
		nodes + "https:n:" + at(secure) + "/proxy/a":           `GET /a auth=""`,
		pods + "p:" + at(plain) + "/proxy/":                    `GET / auth=""`,
		pods + "http:p:" + at(plain) + "/proxy/x/y/":           `GET /x/y/ auth=""`,
		pods + "https:p:" + at(secure) + "/proxy/x":            `GET /x auth=""`,
		services + "s:web/proxy/x":                             `GET /x auth=""`,
		services + "s:80/proxy/x":                              `GET /x auth=""`,
		services + "https:s:443/proxy/x":                       `GET /x auth=""`,
		services + "https:s:tls/proxy/x":                       `GET /x auth=""`,
		"/api/v1/proxy/nodes/n:10250/stats/":                   `GET /stats/ auth=""`,
		"/api/v1/proxy/namespaces/default/services/s:web/a":    `GET /a auth=""`,
		"/api/v1/proxy/namespaces/default/pods/p:" + at(plain): "301",
		pods + "p:" + at(plain) + "/proxy?method=GET":          "301",
		services + "s:none/proxy/":                             "503",
		nodes + "m:10250/proxy/":                               "404",
		nodes + "ftp:n:1/proxy/":                               "400",
		pods + "p:" + at(plain) + "/proxy/here":                "302",
		pods + "p:" + at(plain) + "/proxy/away":                "302",
		"/api/v1/namespaces/default/endpoints/s/proxy/":        "404",
		"/api/v1/namespaces/default/configmaps/s/log":          "404",
	} {
		code, body, _ := do(http.MethodGet, path)
		if _, err := strconv.Atoi(want); err == nil {
			body = strconv.Itoa(code)
		}
		if body != want {
			t.Errorf("%s: %d %s, want %s", path, code, body, want)
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		if code, body, _ := do(method, services+"s:web/proxy/some/path?m=1"); code != 200 || body != method+` /some/path?m=1 auth=""` {
			t.Errorf("%s: %d %s", method, code, body)
		}
	}
	if code, _, to := do("GET", pods+"p:"+at(plain)+"/proxy?a=b"); code != 301 || to != pods+"p:"+at(plain)+"/proxy/?a=b" {
		t.Errorf("a page without its slash: %d %s", code, to)
	}
	if _, _, to := do("GET", pods+"p:"+at(plain)+"/proxy/here"); to != pods+"p:"+at(plain)+"/proxy/there" {
		t.Errorf("a redirect within the page's host: %s", to)
	}
	if _, _, to := do("GET", pods+"p:"+at(plain)+"/proxy/away"); to != "http://169.254.169.254/latest" {
		t.Errorf("a redirect is told, not followed: %s", to)
	}
	base := pods + "p:" + at(plain) + "/proxy"
	if _, body, _ := do("GET", base+"/html"); body != `<p><a href="`+base+`/x?y=1">x</a><img src='pic.png'><a href="http://elsewhere/">e</a>` {
		t.Errorf("links of a page: %s", body)
	}
	tls, err := rest.TLSConfigFor(config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	tls.NextProtos = []string{"http/1.1"}
	for _, path := range []string{base + "/ws", services + "https:s:tls/proxy/ws", nodes + "n/proxy/ws"} {
		d := websocket.Dialer{TLSClientConfig: tls}
		c, _, err := d.DialContext(t.Context(), strings.Replace(s.URL, "https", "wss", 1)+path, nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if _, m, err := c.ReadMessage(); err != nil || string(m) != "hello" {
			t.Errorf("%s: %q, %v", path, m, err)
		}
		c.Close()
	}
}
