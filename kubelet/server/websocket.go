// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// The WebSocket subprotocols that cri-streaming does not speak.
const (
	channelsV5 = "v5.channel.k8s.io" // like v4, and either side can close one channel
	channelsV4 = "v4.channel.k8s.io"
	spdyTunnel = "SPDY/3.1+portforward.k8s.io" // a SPDY connection in the messages of a WebSocket
)

// The channels of a remote command, in the protocol's order.
const (
	chanStdin = iota
	chanStdout
	chanStderr
	chanError
	chanResize
)

func subprotocols(r *http.Request) []string {
	var out []string
	for _, h := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(h, ",") {
			out = append(out, strings.TrimSpace(p))
		}
	}
	return out
}

func wantsChannels(r *http.Request) bool {
	return wsstream.IsWebSocketRequest(r) && slices.Contains(subprotocols(r), channelsV5)
}

func wantsTunnel(r *http.Request) bool {
	return wsstream.IsWebSocketRequest(r) && slices.Contains(subprotocols(r), spdyTunnel)
}

// channels serves a remote command over v5 or v4 channels.
func (s *server) channels(w http.ResponseWriter, r *http.Request, o *remotecommand.Options, run process) {
	used := func(on bool, t wsstream.ChannelType) wsstream.ChannelType {
		if on {
			return t
		}
		return wsstream.IgnoreChannel
	}
	types := []wsstream.ChannelType{
		chanStdin: used(o.Stdin, wsstream.ReadChannel), chanStdout: used(o.Stdout, wsstream.WriteChannel),
		chanStderr: used(o.Stderr, wsstream.WriteChannel), chanError: wsstream.WriteChannel, chanResize: wsstream.ReadChannel,
	}
	config := wsstream.ChannelProtocolConfig{Binary: true, Channels: types}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{channelsV5: config, channelsV4: config})
	conn.SetIdleTimeout(idleTimeout)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		s.log.Debug("open a WebSocket", "err", err)
		return
	}
	defer conn.Close()
	var st podruntime.Stdio
	if o.Stdin {
		st.Stdin = streams[chanStdin]
	}
	if o.Stdout {
		st.Stdout = streams[chanStdout]
	}
	if o.Stderr {
		st.Stderr = streams[chanStderr]
	}
	if o.TTY {
		st.Resize = sizes(r.Context(), streams[chanResize])
	}
	// An empty message tells the client that the connection stands.
	_, _ = streams[map[bool]int{true: chanStdout, false: chanError}[o.Stdout]].Write(nil)
	code, err := run(r.Context(), o.TTY, st)
	b, jsonErr := json.Marshal(exitStatus(code, err))
	if jsonErr == nil {
		_, _ = streams[chanError].Write(b) // the client may be gone
	}
}

// exitStatus is how the API says how a command ended.
func exitStatus(code int, err error) metav1.Status {
	switch {
	case err != nil:
		return metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Internal error occurred: error executing command in container: %v", err)}
	case code != 0:
		return metav1.Status{Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: exit status %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}}}
	}
	return metav1.Status{Status: metav1.StatusSuccess}
}

// sizes decodes {"Width":80,"Height":24} messages.
func sizes(ctx context.Context, r io.Reader) <-chan podruntime.Size {
	out := make(chan podruntime.Size)
	go func() {
		defer close(out)
		dec := json.NewDecoder(r)
		for {
			var x struct{ Width, Height uint16 }
			if dec.Decode(&x) != nil {
				return // the end, or nonsense
			}
			select {
			case out <- podruntime.Size{Cols: x.Width, Rows: x.Height}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// tunnel serves SPDY port forwarding inside a WebSocket: the SPDY server is given a request and a connection that look as
// if the client had upgraded to SPDY directly.
func (s *server) tunnel(w http.ResponseWriter, r *http.Request, f forwarder) {
	up := websocket.Upgrader{
		Subprotocols: []string{spdyTunnel}, ReadBufferSize: 32 << 10, WriteBufferSize: 32 << 10,
		CheckOrigin: func(*http.Request) bool { return true }, // who may talk to us was settled before
	}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		s.log.Debug("open a WebSocket", "err", err)
		return
	}
	ctx, cancel := context.WithCancel(f.request)
	defer cancel()
	f.request = ctx
	conn := watch(&messageConn{Conn: ws}, nil, cancel)
	defer conn.Close()
	inner := r.Clone(ctx)
	inner.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {portforward.ProtocolV1Name},
	}
	portforward.ServePortForward(&upgraded{conn: conn, header: http.Header{}}, inner, f, "", "", &portforward.V4Options{}, idleTimeout, createTimeout,
		portforward.SupportedProtocols)
}

// upgraded is a response that hands over a connection and sends no header of its own.
type upgraded struct {
	conn   net.Conn
	header http.Header
}

func (u *upgraded) Header() http.Header { return u.header }
func (u *upgraded) Write(b []byte) (int, error) {
	return 0, errors.New("not an HTTP response any more")
}
func (u *upgraded) WriteHeader(int) {}
func (u *upgraded) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return u.conn, bufio.NewReadWriter(bufio.NewReader(u.conn), bufio.NewWriter(u.conn)), nil
}

// messageConn is the stream of bytes in a WebSocket's binary messages. One reader and one writer at a time, as SPDY does.
type messageConn struct {
	*websocket.Conn
	now io.Reader // the message being read
}

func (c *messageConn) Read(p []byte) (int, error) {
	for {
		if c.now == nil {
			kind, r, err := c.NextReader()
			if err != nil {
				if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
					return 0, io.EOF
				}
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, fmt.Errorf("a WebSocket message of type %d in a binary stream", kind)
			}
			c.now = r
		}
		n, err := c.now.Read(p)
		if errors.Is(err, io.EOF) {
			c.now, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *messageConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *messageConn) Close() error {
	msg := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.WriteControl(websocket.CloseMessage, msg, time.Now().Add(time.Second)) // a courtesy
	return c.Conn.Close()
}

func (c *messageConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
