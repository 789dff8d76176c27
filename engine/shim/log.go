// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxLine is how much of a line is kept back before it is written as a part, as in other implementations of the CRI.
const maxLine = 16 << 10

// logWriter writes the CRI's log format to a file that it rotates. The streams share it.
type logWriter struct {
	Log
	mu   sync.Mutex // guards all below
	f    *os.File   // nil when the log could not be opened: the container goes on without
	size int64
	out  []byte
}

func openLog(l Log) (*logWriter, error) {
	w := &logWriter{Log: l}
	if l.Path == "" {
		return w, nil
	}
	return w, w.open()
}

func (w *logWriter) open() error {
	f, err := os.OpenFile(w.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	if w.f != nil {
		w.f.Close()
	}
	w.f, w.size = f, st.Size()
	return nil
}

func (w *logWriter) reopen() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.Path == "" {
		return nil
	}
	return w.open()
}

// lines is the unfinished line of one stream.
type lines struct {
	log    *logWriter
	stream string
	rest   []byte
}

// write logs what came at one time. Lines without an end wait for it, at most maxLine bytes.
func (l *lines) write(p []byte, now time.Time) {
	if l.log.Path == "" {
		return
	}
	w := l.log
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = w.out[:0]
	stamp := now.UTC().Format(time.RFC3339Nano)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		room := maxLine - len(l.rest)
		switch {
		case i >= 0 && i <= room:
			w.record(stamp, l.stream, 'F', l.rest, p[:i])
			l.rest, p = l.rest[:0], p[i+1:]
		case len(p) >= room && (i < 0 || i > room):
			w.record(stamp, l.stream, 'P', l.rest, p[:room])
			l.rest, p = l.rest[:0], p[room:]
		default:
			l.rest, p = append(l.rest, p...), nil
		}
	}
	w.flush()
}

// end logs a last line that has no end; marked as a part, it reads back without one.
func (l *lines) end(now time.Time) {
	if len(l.rest) == 0 || l.log.Path == "" {
		return
	}
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	l.log.out = l.log.out[:0]
	l.log.record(now.UTC().Format(time.RFC3339Nano), l.stream, 'P', l.rest, nil)
	l.log.flush()
	l.rest = nil
}

func (w *logWriter) record(stamp, stream string, tag byte, a, b []byte) {
	w.out = append(w.out, stamp...)
	w.out = append(w.out, ' ')
	w.out = append(w.out, stream...)
	w.out = append(w.out, ' ', tag, ' ')
	w.out = append(w.out, a...)
	w.out = append(w.out, b...)
	w.out = append(w.out, '\n')
}

// flush writes whole records. A full disk loses output, never the container.
func (w *logWriter) flush() {
	if w.f == nil || len(w.out) == 0 {
		return
	}
	n, _ := w.f.Write(w.out)
	w.size += int64(n)
	if cap(w.out) > 64<<10 {
		w.out = nil // one burst shall not stay in memory
	}
	if w.MaxBytes > 0 && w.size >= w.MaxBytes {
		w.rotate()
	}
}

// rotate renames path to path.1, path.1 to path.2 … and drops the last; readers that have a file open keep it.
func (w *logWriter) rotate() {
	name := func(n int) string {
		if n == 0 {
			return w.Path
		}
		return w.Path + "." + strconv.Itoa(n)
	}
	keep := max(w.MaxFiles, 1)
	_ = os.Remove(name(keep - 1))
	for n := keep - 1; n > 0; n-- {
		_ = os.Rename(name(n-1), name(n))
	}
	_ = w.open()
}

func (w *logWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f != nil {
		w.f.Close()
		w.f = nil
	}
}
