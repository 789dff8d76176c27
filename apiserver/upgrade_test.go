// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	restclient "k8s.io/client-go/rest"

	"github.com/knarr/knarr/apiserver"
)

// stubborn is a kubelet that refuses every upgrade and keeps the connection open for more: what came after the first
// request of each connection is told on rest, "" when the other side closed it.
func stubborn(t *testing.T) (apiserver.Backend, <-chan string) {
	t.Helper()
	like := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	like.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: like.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	rest := make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { rest <- refuse(conn) }()
		}
	}()
	return apiserver.Backend{
		URL: &url.URL{Scheme: "https", Host: l.Addr().String()}, TLS: like.Client().Transport.(*http.Transport).TLSClientConfig,
	}, rest
}

func refuse(conn net.Conn) string {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err.Error()
	}
	br := bufio.NewReader(conn)
	req, err := http.ReadRequest(br)
	if err != nil {
		return "first request: " + err.Error()
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return err.Error()
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nnobody"); err != nil {
		return err.Error()
	}
	more, err := io.ReadAll(br)
	if err != nil {
		return "not closed: " + err.Error()
	}
	return string(more)
}

// TestAFailedUpgradeLeavesNoWayToTheKubelet is row 27 (CVE-2018-1002105): after a refused upgrade the connection to the
// backend, which has the API server's credentials, is closed, and what the client sends next is a request like any other.
func TestAFailedUpgradeLeavesNoWayToTheKubelet(t *testing.T) {
	kubelet, rest := stubborn(t)
	s := withBackend(t, kubelet)
	config, err := restclient.TLSConfigFor(config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	config.NextProtos = []string{"http/1.1"}
	const pod = "/api/v1/namespaces/default/pods/p/"
	spdy := "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: "
	ws := "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: "
	for name, c := range map[string]struct{ method, path, upgrade string }{
		"exec, SPDY":              {"POST", pod + "exec?command=x&container=c&stdout=true", spdy + "v4.channel.k8s.io"},
		"exec, WebSocket v5":      {"GET", pod + "exec?command=x&container=c&stdout=true", ws + "v5.channel.k8s.io"},
		"exec, WebSocket v4":      {"GET", pod + "exec?command=x&container=c&stdout=true", ws + "v4.channel.k8s.io"},
		"attach, SPDY":            {"POST", pod + "attach?container=c&stdout=true", spdy + "v4.channel.k8s.io"},
		"portforward, SPDY":       {"POST", pod + "portforward", spdy + "portforward.k8s.io"},
		"portforward, tunnel":     {"GET", pod + "portforward", ws + "SPDY/3.1+portforward.k8s.io"},
		"node proxy, any upgrade": {"GET", "/api/v1/nodes/n/proxy/exec", "Upgrade: anything"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			send := func(text string) (*http.Response, string) {
				if _, err := io.WriteString(conn, text); err != nil {
					return nil, ""
				}
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					return nil, "" // closed: nothing gets through that either
				}
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Error(err)
				}
				return res, string(body)
			}
			res, body := send(c.method + " " + c.path + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" + c.upgrade + "\r\nContent-Length: 0\r\n\r\n")
			if res == nil || res.StatusCode != http.StatusForbidden || !strings.Contains(body, "nobody") {
				t.Fatalf("the upgrade: %+v %s", res, body)
			}
			res, body = send("GET /runningpods/ HTTP/1.1\r\nHost: x\r\n\r\n")
			if res != nil && (res.StatusCode != http.StatusNotFound || strings.Contains(body, "nobody")) {
				t.Errorf("the request after it: %d %s", res.StatusCode, body)
			}
			select {
			case more := <-rest:
				if more != "" {
					t.Errorf("the kubelet got more: %q", more)
				}
			case <-time.After(10 * time.Second):
				t.Error("the connection to the kubelet stays open")
			}
		})
	}
}
