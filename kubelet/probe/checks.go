// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 10 << 10

// Limited keeps the first bytes written to it and drops the rest.
type Limited struct{ bytes.Buffer }

func (l *Limited) Write(p []byte) (int, error) {
	if room := maxAnswer - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func execCheck(ctx context.Context, ex Execer, t Target, command []string) Result {
	var out Limited
	code, err := ex.Exec(ctx, t.ID, podruntime.ExecSpec{Args: command}, podruntime.Stdio{Stdout: &out, Stderr: &out})
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Result{Message: fmt.Sprintf("command timed out: %q", strings.Join(command, " "))}
	case err != nil:
		return Result{Message: err.Error()}
	case code != 0:
		return Result{Message: out.String()}
	}
	return Result{OK: true}
}

// Request is the HTTP request of a handler.
func Request(ctx context.Context, t Target, h *corev1.HTTPGetAction) (*http.Request, error) {
	n, err := port(t.Container, h.Port)
	if err != nil {
		return nil, err
	}
	host := h.Host
	if host == "" {
		host = t.IP
	}
	u, err := url.Parse(h.Path)
	if err != nil { // taken as it is, as a path
		u = &url.URL{Path: h.Path}
	}
	u.Scheme = "http"
	if strings.EqualFold(string(h.Scheme), "https") {
		u.Scheme = "https"
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(n))
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	req.Header.Set("Accept", "*/*")
	for _, x := range h.HTTPHeaders {
		switch {
		case strings.EqualFold(x.Name, "Host"):
			req.Host = x.Value
		case req.Header.Get(x.Name) != "" && (strings.EqualFold(x.Name, "User-Agent") || strings.EqualFold(x.Name, "Accept")):
			req.Header.Set(x.Name, x.Value)
		default:
			req.Header.Add(x.Name, x.Value)
		}
	}
	return req, nil
}

// errElsewhere ends a chain of redirects that leaves the pod; the answer so far counts.
var errElsewhere = http.ErrUseLastResponse

// Client sends one request. Certificates are not verified: the pod's own is what it is.
func Client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() {
				return errElsewhere
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
}

func httpCheck(ctx context.Context, t Target, h *corev1.HTTPGetAction) Result {
	req, err := Request(ctx, t, h)
	if err != nil {
		return Result{Message: err.Error()}
	}
	resp, err := Client().Do(req)
	if err != nil {
		return Result{Message: err.Error()}
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return Result{Message: err.Error()}
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return Result{Message: fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode)}
	}
	return Result{OK: true}
}

func tcpCheck(ctx context.Context, t Target, h *corev1.TCPSocketAction) Result {
	if err := Dial(ctx, t, h); err != nil {
		return Result{Message: err.Error()}
	}
	return Result{OK: true}
}

// Dial connects to a TCP port and hangs up.
func Dial(ctx context.Context, t Target, h *corev1.TCPSocketAction) error {
	n, err := port(t.Container, h.Port)
	if err != nil {
		return err
	}
	host := h.Host
	if host == "" {
		host = t.IP
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(n)))
	if err != nil {
		return err
	}
	return conn.Close()
}

func grpcCheck(ctx context.Context, t Target, h *corev1.GRPCAction) Result {
	n, err := port(t.Container, intstr.FromInt32(h.Port))
	if err != nil {
		return Result{Message: err.Error()}
	}
	service := ""
	if h.Service != nil {
		service = *h.Service
	}
	addr := net.JoinHostPort(t.IP, strconv.Itoa(n))
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("kube-probe/1.37"), grpc.WithNoProxy(), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return Result{Message: err.Error()}
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Result{Message: fmt.Sprintf("timeout: health rpc to %q did not complete in time", addr)}
	case err != nil:
		return Result{Message: fmt.Sprintf("error: health rpc probe to %q failed: %v", addr, err)}
	case resp.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return Result{Message: fmt.Sprintf("service unhealthy (responded with %q)", resp.GetStatus())}
	}
	return Result{OK: true}
}
