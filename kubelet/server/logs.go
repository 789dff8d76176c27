// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// logQuery is the query of a request for logs.
type logQuery struct {
	podruntime.LogOptions
	previous, timestamps bool
	limit                int64  // bytes, -1: none
	stream               string // "", "stdout", "stderr"
}

func parseLogQuery(q url.Values, now time.Time) (o logQuery, err error) {
	o.Tail, o.limit = -1, -1
	o.Follow, o.previous, o.timestamps = flag(q, "follow"), flag(q, "previous"), flag(q, "timestamps")
	number := func(name string, min int64) (n int64, ok bool) {
		v := q.Get(name)
		if v == "" || err != nil {
			return 0, false
		}
		n, perr := strconv.ParseInt(v, 10, 64)
		if perr != nil || n < min {
			err = errs.New(errs.Invalid, "%s=%q is not a number of at least %d", name, v, min)
		}
		return n, err == nil
	}
	if n, ok := number("tailLines", 0); ok {
		o.Tail = int(n)
	}
	if n, ok := number("limitBytes", 1); ok {
		o.limit = n
	}
	if n, ok := number("sinceSeconds", 1); ok {
		o.SinceUnixNano = now.Add(-time.Duration(n) * time.Second).UnixNano()
	}
	if v := q.Get("sinceTime"); v != "" && err == nil {
		t, perr := time.Parse(time.RFC3339, v)
		if perr != nil {
			err = errs.New(errs.Invalid, "sinceTime=%q is not an RFC 3339 time", v)
		}
		o.SinceUnixNano = nanos(t)
	}
	switch v := q.Get("stream"); v {
	case "", "All":
	case "Stdout":
		o.stream = "stdout"
	case "Stderr":
		o.stream = "stderr"
	default:
		err = errs.New(errs.Invalid, "stream=%q is none of All, Stdout, Stderr", v)
	}
	return o, err
}

// nanos is UnixNano, which is defined from 1678 to 2262 only.
func nanos(t time.Time) int64 {
	switch {
	case t.Year() < 1970:
		return 0
	case t.Year() > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// flag is a boolean as the API ("true") or an older kubelet ("1") writes it.
func flag(q url.Values, name string) bool {
	b, err := strconv.ParseBool(q.Get(name))
	return err == nil && b
}

func (s *server) logs(w http.ResponseWriter, r *http.Request) {
	o, err := parseLogQuery(r.URL.Query(), time.Now())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	c, err := s.pods.Container(r.Context(), r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"), o.previous)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &logWriter{w: w, timestamps: o.timestamps, left: o.limit, flush: func() {}}
	if o.Follow {
		rc := http.NewResponseController(w)
		out.flush = func() { _ = rc.Flush() } // a writer that cannot flush sends when it is full
		w.WriteHeader(http.StatusOK)
		out.flush()
	}
	for line, err := range s.rt.Logs(r.Context(), c.ID, o.LogOptions) {
		if err == nil && (o.stream == "" || o.stream == line.Stream) {
			err = out.line(line)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && r.Context().Err() == nil {
				s.log.Debug("logs end early", "container", c.ID, "err", err)
			}
			return
		}
	}
}

// logWriter writes lines as kubectl shows them.
type logWriter struct {
	w          io.Writer
	timestamps bool
	inside     bool  // the last piece was partial
	left       int64 // bytes, -1: any
	flush      func()
}

// line writes one; io.EOF when the limit is reached.
func (l *logWriter) line(x podruntime.LogLine) error {
	data := x.Data
	if l.timestamps && !l.inside {
		data = append(fmt.Appendf(nil, "%s ", x.Time.UTC().Format(time.RFC3339Nano)), data...)
	}
	l.inside = x.Partial
	if l.left >= 0 {
		data = data[:min(int64(len(data)), l.left)]
		l.left -= int64(len(data))
	}
	if _, err := l.w.Write(data); err != nil {
		return err
	}
	l.flush()
	if l.left == 0 {
		return io.EOF
	}
	return nil
}
