// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangup tells when the other end of a connection has gone altogether.
//
// Reading cannot tell: a client that only closed its sending side (docker without -i does at once) reads as ended too, and
// goes on listening. Writing tells, but only when there is something to write, and a silent container never has. The
// kernel knows: it raises POLLHUP when both directions are closed. So a duplicate of the descriptor waits in Go's
// own poller, beside the reader and the writer of the connection, and asks at each of its events.
type hangup struct {
	file *os.File // the duplicate
	raw  syscall.RawConn
}

// watchHangup starts to watch conn. The caller closes the watch, which ends wait.
func watchHangup(conn net.Conn) (*hangup, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, os.ErrInvalid
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if e := raw.Control(func(orig uintptr) { fd, err = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 3) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	f := os.NewFile(uintptr(fd), "hangup") // not blocking, like the original: it joins the poller
	raw, err = f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &hangup{file: f, raw: raw}, nil
}

// wait blocks until the other end has gone (true) or the watch is closed (false).
func (h *hangup) wait() bool {
	gone := false
	err := h.raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}} // POLLHUP and POLLERR are told unasked
		n, err := unix.Poll(p, 0)
		gone = err == nil && n == 1 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
		return gone
	})
	return err == nil && gone
}

func (h *hangup) close() { h.file.Close() }
