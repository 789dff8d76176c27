// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	kubeletforward "k8s.io/cri-streaming/pkg/streaming/portforward"
	kubeletcommand "k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
)

// fakeKubelet is a kubelet whose containers are Go functions, with the real streaming protocols.
type fakeKubelet struct{}

func (fakeKubelet) ExecInContainer(_ context.Context, _, _, container string, cmd []string, in io.Reader, out, _ io.WriteCloser, tty bool, _ <-chan kubeletcommand.TerminalSize, _ time.Duration) error {
	fmt.Fprintf(out, "%s %v tty=%v ", container, cmd, tty)
	if in != nil {
		_, err := io.Copy(out, in)
		return err
	}
	return nil
}

func (fakeKubelet) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	buf := make([]byte, 4)
	if _, err := io.ReadFull(stream, buf); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stream, "%s from %d", buf, port)
	return err
}

func (k fakeKubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch parts[0] {
	case "containerLogs":
		if parts[3] == "waiting" {
			http.Error(w, `container "waiting" in pod "p" is waiting to start: ContainerCreating`, http.StatusBadRequest)
			return
		}
		if parts[3] == "redirecting" {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
			return
		}
		fmt.Fprintf(w, "log of %s, %s\n", strings.Join(parts[1:], "/"), r.URL.RawQuery)
	case "exec":
		o, err := kubeletcommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kubeletcommand.ServeExec(w, r, k, parts[2], "", parts[3], r.URL.Query()["command"], o, time.Minute, time.Minute, kubeletcommand.SupportedStreamingProtocols)
	case "portForward":
		o, err := kubeletforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kubeletforward.ServePortForward(w, r, k, parts[2], "", o, time.Minute, time.Minute, kubeletforward.SupportedProtocols)
	default:
		http.NotFound(w, r)
	}
}

// withKubelet runs a server with one bound pod, its kubelet in process or behind TLS.
func withKubelet(t *testing.T, remote bool) *apiservertest.Server {
	t.Helper()
	b := apiserver.Backend{Handler: fakeKubelet{}}
	if remote {
		k := httptest.NewTLSServer(fakeKubelet{})
		t.Cleanup(k.Close)
		u, err := url.Parse(k.URL)
		if err != nil {
			t.Fatal(err)
		}
		b = apiserver.Backend{URL: u, TLS: k.Client().Transport.(*http.Transport).TLSClientConfig}
	}
	return withBackend(t, b)
}

// withBackend runs a server with one bound pod, whose node's kubelet is b.
func withBackend(t *testing.T, b apiserver.Backend) *apiservertest.Server {
	t.Helper()
	s := apiservertest.New(t, func(c *apiserver.Config) {
		c.Kubelet = func(string) (apiserver.Backend, error) { return b, nil }
	})
	s.Account(t, "default")
	cs := clientset(t, s)
	p := pod("p")
	for _, name := range []string{"waiting", "redirecting"} {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: "x"})
	}
	if _, err := cs.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := cs.CoreV1().Pods("default").Bind(t.Context(), &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Name: "n"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func each(t *testing.T, f func(t *testing.T, s *apiservertest.Server)) {
	for name, remote := range map[string]bool{"in process": false, "over TLS": true} {
		t.Run(name, func(t *testing.T) { f(t, withKubelet(t, remote)) })
	}
}

func TestLogs(t *testing.T) {
	each(t, func(t *testing.T, s *apiservertest.Server) {
		pods := clientset(t, s).CoreV1().Pods("default")
		lines := int64(3)
		b, err := pods.GetLogs("p", &corev1.PodLogOptions{Container: "c", TailLines: &lines}).DoRaw(t.Context())
		if err != nil || string(b) != "log of default/p/c, tailLines=3\n" {
			t.Errorf("%q, %v", b, err)
		}
		for container, want := range map[string]string{
			"waiting":     `container "waiting" in pod "p" is waiting to start: ContainerCreating`,
			"redirecting": "the kubelet answered with a redirect, which is never followed",
			"none":        "container none is not valid for pod p",
			"":            "a container name must be specified for pod p, choose one of: [c waiting redirecting]",
		} {
			if _, err := pods.GetLogs("p", &corev1.PodLogOptions{Container: container}).Stream(t.Context()); err == nil || err.Error() != want {
				t.Errorf("%s: %v", container, err)
			}
		}
	})
}

func TestExec(t *testing.T) {
	each(t, func(t *testing.T, s *apiservertest.Server) {
		c := config(t, s)
		cs := clientset(t, s)
		o := &corev1.PodExecOptions{Container: "c", Command: []string{"echo", "a b"}, Stdin: true, Stdout: true}
		u := cs.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("p").SubResource("exec").VersionedParams(o, scheme.ParameterCodec).URL()
		ws, err := remotecommand.NewWebSocketExecutor(c, "GET", u.String())
		if err != nil {
			t.Fatal(err)
		}
		sp, err := remotecommand.NewSPDYExecutor(c, "POST", u)
		if err != nil {
			t.Fatal(err)
		}
		for name, e := range map[string]remotecommand.Executor{"WebSocket": ws, "SPDY": sp} {
			var out bytes.Buffer
			err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("input"), Stdout: &out})
			if err != nil || out.String() != "c [echo a b] tty=false input" {
				t.Errorf("%s: %q, %v", name, out.String(), err)
			}
		}
	})
}

func TestPortForward(t *testing.T) {
	each(t, func(t *testing.T, s *apiservertest.Server) {
		c := config(t, s)
		u := clientset(t, s).CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("p").SubResource("portforward").URL()
		tunnel, err := portforward.NewSPDYOverWebsocketDialer(u, c)
		if err != nil {
			t.Fatal(err)
		}
		rt, up, err := spdy.RoundTripperFor(c)
		if err != nil {
			t.Fatal(err)
		}
		plain := spdy.NewDialer(up, &http.Client{Transport: rt}, "POST", u)
		for name, port := range map[string]int{"WebSocket": 0, "SPDY": 1} {
			dialer := plain
			if port == 0 {
				dialer = tunnel
			}
			stop, ready := make(chan struct{}), make(chan struct{})
			f, err := portforward.New(dialer, []string{":8080"}, stop, ready, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- f.ForwardPorts() }()
			select {
			case <-ready:
			case err := <-ended:
				t.Fatalf("%s: %v", name, err)
			}
			ports, err := f.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			got := ask(t, int(ports[0].Local))
			if got != "ping from 8080" {
				t.Errorf("%s: %q", name, got)
			}
			close(stop)
			<-ended
		}
	})
}

// ask says ping to a local port and reads the answer.
func ask(t *testing.T, port int) string {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRedirectsAndLocalAddressesAreRefused is row 28: what an object says is an address is a stranger's word.
func TestRedirectsAndLocalAddressesAreRefused(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	ctx := t.Context()
	cs := clientset(t, s)
	p, err := cs.CoreV1().Pods("default").Create(ctx, pod("p"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{"127.0.0.1", "169.254.169.254"} {
		p.Status.PodIP, p.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
		q, err := cs.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p = q
		_, err = cs.CoreV1().RESTClient().Get().Resource("pods").Namespace("default").Name("p:80").SubResource("proxy").Stream(ctx)
		if err == nil || !strings.Contains(err.Error(), "address not allowed") {
			t.Errorf("%s: %v", ip, err)
		}
	}
	if _, err := cs.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = cs.CoreV1().RESTClient().Get().Resource("nodes").Name("n").SubResource("proxy").Suffix("healthz").Stream(ctx)
	if err == nil || !strings.Contains(err.Error(), "address not allowed") {
		t.Errorf("a node that says it is loopback: %v", err)
	}
}
