// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/portforward"
)

// Port-forward as kubectl speaks it since 1.31: the SPDY connection that kubelets understand, carried as the binary
// messages of a WebSocket (KEP-4006), because proxies on the way know WebSocket and not SPDY.
//
//	kubectl --WebSocket, SPDY/3.1+portforward.k8s.io--> API server --SPDY/3.1, portforward.k8s.io--> kubelet

// tunnelled reports whether the client offers only the tunnel.
func tunnelled(r *http.Request) bool {
	return websocket.IsWebSocketUpgrade(r) && strings.Contains(r.Header.Get("Sec-Websocket-Protocol"), portforward.WebsocketsSPDYTunnelingPortForwardV1)
}

// tunnel opens the SPDY connection to the kubelet first, so that a refusal is still a plain answer.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, c call, pod *corev1.Pod) error {
	b, err := s.kubelet(pod.Spec.NodeName)
	if err != nil {
		return err
	}
	back, rest, err := s.spdy(r.Context(), b, &url.URL{Path: "/portForward/" + pod.Namespace + "/" + pod.Name}, portforward.PortForwardV1Name, answer{call: c})
	if err != nil {
		return err
	}
	defer back.Close()
	up := websocket.Upgrader{
		Subprotocols: []string{portforward.WebsocketsSPDYTunnelingPortForwardV1},
		CheckOrigin:  func(*http.Request) bool { return true }, // who may is authorised, and nothing of it is a cookie's
	}
	front, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil // the upgrader has answered
	}
	defer front.Close()
	join(front, back, rest)
	return nil
}

// join copies both ways until either side ends.
func join(front *websocket.Conn, back net.Conn, rest *bufio.Reader) {
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			kind, m, err := front.NextReader()
			if err != nil {
				return
			}
			if kind != websocket.BinaryMessage {
				continue
			}
			if _, err := io.Copy(back, m); err != nil {
				return
			}
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 32<<10)
		for {
			n, err := rest.Read(buf)
			if n > 0 && front.WriteMessage(websocket.BinaryMessage, buf[:n]) != nil {
				return
			}
			if err != nil {
				return
			}
		}
	}()
	<-done
	// Closing both ends the other half.
	_ = front.Close()
	_ = back.Close()
	<-done
}

// spdy upgrades a connection to a kubelet. What was read beyond the answer is in the reader.
func (s *Server) spdy(ctx context.Context, b Backend, at *url.URL, protocol string, a answer) (net.Conn, *bufio.Reader, error) {
	conn, err := s.dial(ctx, b)
	if err != nil {
		return nil, nil, apierrors.NewServiceUnavailable("error dialing backend: " + err.Error())
	}
	host := "localhost"
	if b.URL != nil {
		host = b.URL.Host
	}
	req := &http.Request{Method: http.MethodPost, URL: at, Host: host, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {protocol},
	}}
	if err := req.Write(conn); err != nil {
		return nil, nil, errors.Join(apierrors.NewServiceUnavailable("ask the kubelet: "+err.Error()), conn.Close())
	}
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, nil, errors.Join(apierrors.NewServiceUnavailable("read the kubelet's answer: "+err.Error()), conn.Close())
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return conn, br, nil
	}
	defer conn.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	if err != nil {
		return nil, nil, apierrors.NewServiceUnavailable("read the kubelet's answer: " + err.Error())
	}
	if res.StatusCode < 300 {
		return nil, nil, apierrors.NewInternalError(fmt.Errorf("the kubelet did not upgrade the connection: %s", text))
	}
	return nil, nil, a.refusal(res.StatusCode, text)
}

// dial opens a connection to a backend, in process by a pipe.
func (s *Server) dial(ctx context.Context, b Backend) (net.Conn, error) {
	if b.Handler != nil {
		return s.pipe(ctx, b.Handler), nil
	}
	dial := dialProxyable
	if b.configured {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	conn, err := dial(ctx, "tcp", b.URL.Host)
	if err != nil || b.URL.Scheme != "https" {
		return conn, err
	}
	config := b.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	if config.ServerName == "" {
		config.ServerName = b.URL.Hostname()
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// pipe serves one connection with h until it is closed.
func (s *Server) pipe(ctx context.Context, h http.Handler) net.Conn {
	here, there := net.Pipe()
	l := &oneConn{conn: make(chan net.Conn, 1), end: make(chan struct{})}
	l.conn <- &told{Conn: there, closed: l.close}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { _ = server.Serve(l) }() // ends, with no more to say than that, when the connection is closed
	return here
}
