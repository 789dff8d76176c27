// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"golang.org/x/sys/unix"
)

// One connection carries one request, and its answers; a connection is also the life of what was asked for.
//
//	client                                   monitor
//	  │ create {launch} ────────────────────────▶│  only on the descriptor the monitor was started with
//	  │◀─────────────────────────── {pid} / error│  then as hold
//	  │ hold ───────────────────────────────────▶│  while it is open the monitor stays, also after the exit
//	  │ start, signal, pause, resume, resize,    │
//	  │ closestdin, reopenlog, shutdown ────────▶│  ◀── {} / error
//	  │ wait {watch, after} ────────────────────▶│  ◀── {exit}, when there is one; with watch {oom} for each until then
//	  │ attach {streams} ───────────────────────▶│  ◀── {} with pipe ends; closing the connection detaches
//	  │ exec {process} ─────────────────────────▶│  ◀── {pid} with pipe ends or a terminal; later {exit}
//	  │ execs ──────────────────────────────────▶│  ◀── {execs}: what runs, and ended without its client
//	  │ execwait {execID} ──────────────────────▶│  ◀── {exit}, when there is one
//
// A message is a length of four bytes, big endian, and that many bytes of JSON. Descriptors travel with the length.
const maxMessage = 8 << 20

const (
	opCreate     = "create"
	opHold       = "hold"
	opStart      = "start"
	opSignal     = "signal"
	opPause      = "pause"
	opResume     = "resume"
	opWait       = "wait"
	opAttach     = "attach"
	opCloseStdin = "closestdin"
	opResize     = "resize"
	opExec       = "exec"
	opExecs      = "execs"
	opExecWait   = "execwait"
	opReopenLog  = "reopenlog"
	opShutdown   = "shutdown"
)

// request is every question. Which fields count depends on Op.
type request struct {
	Op     string         `json:"op"`
	Launch *Launch        `json:"launch,omitempty"`
	Signal int            `json:"signal,omitempty"`
	All    bool           `json:"all,omitempty"`
	ExecID string         `json:"execID,omitempty"` // empty: the container's init
	Cols   uint16         `json:"cols,omitempty"`
	Rows   uint16         `json:"rows,omitempty"`
	Attach *AttachOptions `json:"attach,omitempty"`
	Exec   *Exec          `json:"exec,omitempty"`
	Watch  bool           `json:"watch,omitempty"`
	After  int            `json:"after,omitempty"` // OOMs up to this one are known already; -1: all there were
}

// response is every answer.
type response struct {
	Error string `json:"error,omitempty"`
	Kind  int    `json:"kind,omitempty"` // index in errs.All, from 1
	Pid   int    `json:"pid,omitempty"`
	Exit  *Exit  `json:"exit,omitempty"`

	Execs []KnownExec `json:"execs,omitempty"`
	OOM   *OOM        `json:"oom,omitempty"`
}

func failure(err error) response {
	r := response{Error: err.Error()}
	for i, k := range errs.All {
		if errors.Is(err, k) {
			r.Kind = i + 1
		}
	}
	return r
}

func (r response) err() error {
	switch {
	case r.Error == "":
		return nil
	case r.Kind > 0 && r.Kind <= len(errs.All):
		return errs.New(errs.All[r.Kind-1], "%s", r.Error)
	}
	return errors.New(r.Error)
}

// conn is a stream socket that carries messages. It uses no more of the standard library than files, as the monitor
// links no network code.
type conn struct {
	f  *os.File
	rc syscall.RawConn
}

// newConn takes over fd.
func newConn(fd int) (*conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "shim.sock")
	rc, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &conn{f: f, rc: rc}, nil
}

func (c *conn) Close() error { return c.f.Close() }

// send sends one message, and the descriptors, which stay the sender's.
func (c *conn) send(v any, fds ...int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return errs.New(errs.TooLarge, "a message of %d bytes; at most %d", len(body), maxMessage)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	var sent error
	err = c.rc.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), head, oob, nil, unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN
	})
	if err = errors.Join(err, sent); err != nil {
		return err
	}
	_, err = c.f.Write(body)
	return err
}

// recv receives one message and the descriptors that came with it.
func (c *conn) recv(v any) (fds []int, err error) {
	head := make([]byte, 4)
	for got := 0; got < len(head); {
		n, more, err := c.recvmsg(head[got:])
		fds = append(fds, more...)
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		got += n
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		closeAll(fds)
		return nil, errs.New(errs.TooLarge, "a message of %d bytes; at most %d", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.f, body); err != nil {
		closeAll(fds)
		return nil, err
	}
	if err := json.Unmarshal(body, v); err != nil {
		closeAll(fds)
		return nil, errs.New(errs.Invalid, "decode message: %w", err)
	}
	return fds, nil
}

func (c *conn) recvmsg(p []byte) (n int, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*8))
	var oobn int
	var got error
	err = c.rc.Read(func(fd uintptr) bool {
		n, oobn, _, _, got = unix.Recvmsg(int(fd), p, oob, unix.MSG_CMSG_CLOEXEC)
		return got != unix.EAGAIN
	})
	if err = errors.Join(err, got); err != nil {
		return 0, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, err
	}
	for _, m := range messages {
		if more, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, more...)
		}
	}
	return n, fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// ask sends a request and receives its first answer. When ctx ends the connection is of no further use.
func (c *conn) ask(ctx context.Context, q request) (response, []int, error) {
	if err := c.send(q); err != nil {
		return c.result(ctx, q.Op, response{}, nil, err)
	}
	return c.answer(ctx, q.Op)
}

// answer receives one more answer.
func (c *conn) answer(ctx context.Context, op string) (response, []int, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var r response
	fds, err := c.recv(&r)
	return c.result(ctx, op, r, fds, err)
}

// result says what an answer that came, or failed to, means.
func (c *conn) result(ctx context.Context, op string, r response, fds []int, err error) (response, []int, error) {
	if ctx.Err() != nil {
		closeAll(fds)
		return r, nil, ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		err = errs.New(errs.Gone, "%s: the monitor has ended", op)
	} else if err != nil {
		err = fmt.Errorf("%s: %w", op, err)
	} else {
		err = r.err()
	}
	if err != nil {
		closeAll(fds)
		return r, nil, err
	}
	return r, fds, nil
}

// peerAllowed says whether the other end is root or the same user.
func (c *conn) peerAllowed() bool {
	ok := false
	_ = c.rc.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return ok
}
