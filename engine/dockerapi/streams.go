// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/detach"
	"github.com/knarr/knarr/internal/errs"
)

// The two forms of a stream: a terminal's bytes as they are, or frames of an 8-byte header (stream, 0 0 0, length in big
// endian) and their bytes.
const (
	rawStream   = "application/vnd.docker.raw-stream"
	multiplexed = "application/vnd.docker.multiplexed-stream"
)

// mux writes frames of several streams to one writer.
type mux struct {
	mu sync.Mutex // guards w: a frame is written whole
	w  io.Writer
}

type muxStream struct {
	*mux
	id byte // 1 stdout, 2 stderr
}

func (m muxStream) Write(p []byte) (int, error) {
	frame := make([]byte, 8, 8+len(p))
	frame[0] = m.id
	binary.BigEndian.PutUint32(frame[4:], uint32(len(p)))
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.w.Write(append(frame, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flushing is a response that reaches the client at each write.
type flushing struct {
	http.ResponseWriter
	rc *http.ResponseController
}

func newFlushing(w http.ResponseWriter) flushing { return flushing{w, http.NewResponseController(w)} }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}

// encode writes v and flushes.
func encode(w http.ResponseWriter, v any) error { return json.NewEncoder(newFlushing(w)).Encode(v) }

// takeOver takes the connection from HTTP. The client learns of it by greet, as Docker's attach does: 101 with Upgrade: tcp
// when it asks for that, else 200. Between the two the process is connected, so that nothing it writes is missed.
func takeOver(w http.ResponseWriter, r *http.Request, contentType string) (conn net.Conn, in io.Reader, greet func(), err error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("take the connection over: %w", err)
	}
	conn.SetDeadline(time.Time{})
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\n\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	// Beyond what is buffered the input is read from the connection itself: HTTP's reader would end the request's context
	// when the client closes its sending side.
	in = io.MultiReader(io.LimitReader(buf, int64(buf.Reader.Buffered())), conn)
	var once sync.Once
	return conn, in, func() {
		once.Do(func() { io.WriteString(conn, head) }) // a client that has gone shows at the next write
	}, nil
}

// wiring says which of a process's streams a client wants.
type wiring struct {
	terminal, stdin, stdout, stderr bool
	keys                            []byte // that detach from a terminal
}

// drainFor is how long input that a client left behind may still flow to the process after the client has gone.
const drainFor = 10 * time.Second

// wired are a hijacked connection's ends as a process's streams. A client that closes only its sending side (as docker does
// when it has no input) goes on listening; when it has gone altogether the returned context ends, whether or not there is
// anything to write to it. release ends the watch for that.
func wired(ctx context.Context, conn net.Conn, in io.Reader, o wiring) (_ context.Context, st container.Streams, release func()) {
	m := &mux{w: conn}
	if o.stdout {
		st.Stdout = muxStream{m, 1}
		if o.terminal {
			st.Stdout = conn
		}
	}
	if o.stderr && !o.terminal {
		st.Stderr = muxStream{m, 2}
	}
	ctx, cancel := context.WithCancel(ctx)
	drained := make(chan struct{})
	if o.stdin {
		if !o.terminal {
			o.keys = nil
		}
		st.Stdin = &input{r: detach.NewReader(in, o.keys), ended: sync.OnceFunc(func() { close(drained) })}
	} else {
		go func() {
			io.Copy(io.Discard, in)
			close(drained)
		}()
	}
	h, err := watchHangup(conn)
	if err != nil { // out of descriptors: the next write tells
		return ctx, st, cancel
	}
	go func() {
		defer cancel()
		if !h.wait() {
			return
		}
		late := time.NewTimer(drainFor)
		defer late.Stop()
		select {
		case <-drained:
		case <-late.C:
		case <-ctx.Done():
		}
	}()
	return ctx, st, func() { cancel(); h.close() }
}

// input notes its end, and tells the engine of detaching in its own word.
type input struct {
	r     io.Reader
	ended func()
}

func (i *input) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if err != nil {
		i.ended()
	}
	if errors.Is(err, detach.ErrDetached) {
		err = container.ErrDetach
	}
	return n, err
}

func streamType(terminal bool) string {
	if terminal {
		return rawStream
	}
	return multiplexed
}

func (s *Server) containerAttach(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Containers.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	if c.State == container.Paused {
		return errs.New(errs.Conflict, "container %s is paused, unpause the container before attach", c.Spec.Name)
	}
	tty := c.Spec.Terminal
	keys, err := detach.Parse(r.URL.Query().Get("detachKeys"))
	if err != nil {
		return err
	}
	conn, in, greet, err := takeOver(w, r, streamType(tty))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream := truth(r, "stream")
	ctx, st, release := wired(r.Context(), conn, in, wiring{
		terminal: tty, stdin: stream && truth(r, "stdin") && c.Spec.OpenStdin, stdout: truth(r, "stdout"), stderr: truth(r, "stderr"), keys: keys,
	})
	defer release()
	s.note(c, "attach")
	if !stream {
		greet()
		for l, err := range s.Containers.Logs(ctx, c.ID, container.LogOptions{Stdout: truth(r, "stdout"), Stderr: truth(r, "stderr"), Tail: -1}) {
			if err != nil || writeLine(st, tty, l, false) != nil {
				break
			}
		}
		return nil
	}
	if err := s.Containers.Attach(ctx, c.ID, st, container.AttachOptions{Logs: truth(r, "logs"), Ready: greet}); errors.Is(err, container.ErrDetach) {
		s.note(c, "detach")
	} else if err != nil && ctx.Err() == nil {
		s.log.Debug("attach", "container", c.ID, "err", err)
	}
	return nil
}

func writeLine(st container.Streams, tty bool, l container.LogLine, timestamps bool) error {
	out := st.Stdout
	if l.Stream == "stderr" && !tty {
		out = st.Stderr
	}
	if out == nil {
		return nil
	}
	data := l.Data
	if timestamps {
		data = append([]byte(l.Time.UTC().Format("2006-01-02T15:04:05.000000000Z07:00")+" "), data...)
	}
	_, err := out.Write(data)
	return err
}

func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Containers.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	o := container.LogOptions{Stdout: truth(r, "stdout"), Stderr: truth(r, "stderr"), Follow: truth(r, "follow"), Tail: -1}
	if !o.Stdout && !o.Stderr {
		return errs.New(errs.Invalid, "bad parameters: you must choose at least one stream")
	}
	if o.Since, err = moment(r, "since"); err != nil {
		return err
	}
	if o.Until, err = moment(r, "until"); err != nil {
		return err
	}
	if v := r.URL.Query().Get("tail"); v != "" && v != "all" {
		if o.Tail, err = strconv.Atoi(v); err != nil {
			o.Tail = -1
		}
	}
	if c.Spec.NoLog {
		return errs.New(errs.Unsupported, "configured logging driver does not support reading")
	}
	details := ""
	if truth(r, "details") {
		details = logDetails(c) + " "
	}
	tty := c.Spec.Terminal
	w.Header().Set("Content-Type", streamType(tty))
	w.WriteHeader(http.StatusOK)
	out := newFlushing(w)
	out.rc.Flush()
	m := &mux{w: out}
	st := container.Streams{Stdout: muxStream{m, 1}, Stderr: muxStream{m, 2}}
	if tty {
		st.Stdout = out
	}
	for l, err := range s.Containers.Logs(r.Context(), c.ID, o) {
		if err != nil {
			if r.Context().Err() == nil {
				fmt.Fprintf(muxStream{m, 2}, "error from daemon in stream: %v\n", err)
			}
			return nil
		}
		if details != "" {
			l.Data = append([]byte(details), l.Data...)
		}
		if writeLine(st, tty, l, truth(r, "timestamps")) != nil {
			return nil
		}
	}
	return nil
}

// logDetails are the labels and variables that the log options chose, as docker logs --details prints them.
func logDetails(c container.Container) string {
	a := remembered(c)
	if a == nil || a.HostConfig == nil {
		return ""
	}
	options := a.HostConfig.LogConfig.Config
	env := map[string]string{}
	for _, kv := range c.Config.Env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	var out []string
	choose := func(names, pattern string, from map[string]string) {
		re, err := regexp.Compile(pattern)
		for _, k := range slices.Sorted(maps.Keys(from)) {
			if slices.Contains(strings.Split(names, ","), k) || pattern != "" && err == nil && re.MatchString(k) {
				out = append(out, url.QueryEscape(k)+"="+url.QueryEscape(from[k]))
			}
		}
	}
	choose(options["labels"], options["labels-regex"], c.Config.Labels)
	choose(options["env"], options["env-regex"], env)
	return strings.Join(out, ",")
}

func sizeOf(r *http.Request) (container.Size, error) {
	h, err1 := strconv.ParseUint(r.URL.Query().Get("h"), 10, 16)
	v, err2 := strconv.ParseUint(r.URL.Query().Get("w"), 10, 16)
	if err1 != nil || err2 != nil {
		return container.Size{}, errs.New(errs.Invalid, "invalid terminal size: h=%q w=%q", r.URL.Query().Get("h"), r.URL.Query().Get("w"))
	}
	return container.Size{Cols: uint16(v), Rows: uint16(h)}, nil
}

func (s *Server) containerResize(w http.ResponseWriter, r *http.Request) error {
	sz, err := sizeOf(r)
	if err != nil {
		return err
	}
	if err := s.Containers.Resize(r.Context(), r.PathValue("id"), sz); err != nil {
		return err
	}
	s.Containers.Note(r.PathValue("id"), "resize", map[string]string{"height": strconv.Itoa(int(sz.Rows)), "width": strconv.Itoa(int(sz.Cols))})
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) containerExport(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Containers.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	s.note(c, "export")
	w.Header().Set("Content-Type", "application/octet-stream")
	return s.cut(r, s.Containers.Export(r.Context(), r.PathValue("id"), w))
}

// cut ends a stream whose status line has been sent: the client sees the connection break instead of a good end.
func (s *Server) cut(r *http.Request, err error) error {
	if err != nil && r.Context().Err() == nil {
		s.log.Error("docker api stream", "path", strings.Clone(r.URL.Path), "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
