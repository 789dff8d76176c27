// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Exec and attach as kubectl speaks them since 1.31: channels in a WebSocket, with a signal for the end of stdin
// (v5.channel.k8s.io, KEP-4006). Kubelets speak SPDY streams, so one is translated into the other, stream by stream.
// Older WebSocket protocols and SPDY itself go to the kubelet as they are.

// translating reports whether the client asks for version 5.
func translating(r *http.Request) bool {
	return websocket.IsWebSocketUpgrade(r) && strings.Contains(r.Header.Get("Sec-Websocket-Protocol"), remotecommand.StreamProtocolV5Name)
}

// The channels of a WebSocket, by number.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelError
	channelResize
)

// backStreams are the kubelet's streams by channel; nil where the client did not ask for it.
type backStreams [channelResize + 1]httpstream.Stream

// translate opens the kubelet's side first, so that a refusal is still a plain answer.
func (s *Server) translate(w http.ResponseWriter, r *http.Request, c call, node, path string, q url.Values) error {
	b, err := s.kubelet(node)
	if err != nil {
		return err
	}
	conn, rest, err := s.spdy(r.Context(), b, &url.URL{Path: path, RawQuery: q.Encode()}, remotecommand.StreamProtocolV4Name, answer{call: c})
	if err != nil {
		return err
	}
	back, err := spdy.NewClientConnection(&readAhead{Conn: conn, r: rest})
	if err != nil {
		_ = conn.Close() // the reason is err
		return apierrors.NewInternalError(fmt.Errorf("speak SPDY with the kubelet: %w", err))
	}
	defer back.Close()
	streams, err := open4(back, q)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("open streams to the kubelet: %w", err))
	}
	front := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{remotecommand.StreamProtocolV5Name: {
		Binary: true,
		Channels: []wsstream.ChannelType{
			channelStdin: wsstream.ReadChannel, channelStdout: wsstream.WriteChannel, channelStderr: wsstream.WriteChannel,
			channelError: wsstream.WriteChannel, channelResize: wsstream.ReadChannel,
		},
	}})
	_, channels, err := front.Open(w, r)
	if err != nil {
		return nil // it has answered
	}
	defer front.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-r.Context().Done():
			_ = back.Close() // ends the copies below
		case <-stop:
		}
	}()
	pump(channels, streams, back)
	return nil
}

// pump copies until the kubelet has ended all it sends, or the client is gone.
func pump(front []io.ReadWriteCloser, streams backStreams, back httpstream.Connection) {
	go func() {
		if in := streams[channelStdin]; in != nil {
			_, _ = io.Copy(in, front[channelStdin]) // the end of either side shows in the other copies
			_ = in.Close()
		}
	}()
	go func() {
		var to io.Writer = io.Discard
		if st := streams[channelResize]; st != nil {
			to = st
		}
		// This channel ends only with the whole WebSocket: the client is gone.
		_, _ = io.Copy(to, front[channelResize])
		_ = back.Close()
	}()
	var sending sync.WaitGroup
	for _, n := range []int{channelStdout, channelStderr, channelError} {
		if streams[n] != nil {
			sending.Go(func() { _, _ = io.Copy(front[n], streams[n]) })
		}
	}
	sending.Wait()
}

// open4 opens the streams of v4.channel.k8s.io in the order upstream's clients do.
func open4(back httpstream.Connection, q url.Values) (s backStreams, err error) {
	open := func(n int, typ string, wanted bool) {
		if !wanted || err != nil {
			return
		}
		h := http.Header{}
		h.Set(corev1.StreamType, typ)
		if s[n], err = back.CreateStream(h); err != nil {
			s[n] = nil
		}
	}
	open(channelError, corev1.StreamTypeError, true)
	open(channelStdin, corev1.StreamTypeStdin, q.Has("input"))
	open(channelStdout, corev1.StreamTypeStdout, q.Has("output"))
	open(channelStderr, corev1.StreamTypeStderr, q.Has("error") && !q.Has("tty"))
	open(channelResize, corev1.StreamTypeResize, q.Has("tty"))
	if err == nil {
		for _, n := range []int{channelError, channelStdout, channelStderr} {
			if s[n] != nil {
				_ = s[n].Close() // our half: we only read it
			}
		}
	}
	return s, err
}

// readAhead is a connection of which a part was read already.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

// Read reads what was read ahead, then the connection.
func (c *readAhead) Read(b []byte) (int, error) { return c.r.Read(b) }
