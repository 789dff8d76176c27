// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/knarr/knarr/engine/oci"
	"github.com/knarr/knarr/internal/atomicfile"
	"golang.org/x/sys/unix"
)

// drainPatience is how long after the exit a stream that somebody still holds open is waited for.
const drainPatience = time.Second

// settleAfter the start the monitor's memory is trimmed. Until then the garbage collector, which would run in the middle of the
// start, waits for startMemory.
const (
	settleAfter = time.Second
	startMemory = "16MiB"
)

// monitor is the process that stays with one container.
type monitor struct {
	launch  Launch
	runtime oci.Runtime
	log     *logWriter
	stdio   *stdio
	pid     int
	oom     *ooms

	// children is held while a child is being made, so that it cannot be reaped before it is known, and while the runtime
	// waits for children of its own (hooks).
	children sync.Mutex
	waiting  map[int]func(unix.WaitStatus) // by pid

	mu      sync.Mutex // guards all below
	started time.Time
	execs   map[string]*execution
	conns   int
	exit    *Exit
	exited  chan struct{} // closed when exit is set and on disk
	leave   chan struct{} // closed when the monitor shall end
	leaving bool
}

// Monitor is the monitor process, from its first instruction to its last; it returns its exit status. It is told what to
// do over descriptor 3, see protocol.go. initArgs lead this same binary to oci.Init; none means "init".
func Monitor(initArgs ...string) int {
	_ = unix.CloseRange(4, 1<<31-1, 0) // whoever started us may have leaked
	// Signals are caught, not ignored: what is ignored stays so across exec, and the container would inherit it.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 1
	}
	hold, err := newConn(3)
	if err != nil {
		return 1
	}
	unix.CloseOnExec(3)
	oci.Warm() // while the daemon makes the mounts and the bundle
	var q request
	if _, err := hold.recv(&q); errors.Is(err, io.EOF) {
		return 0 // called off
	} else if err != nil || q.Op != opCreate || q.Launch == nil {
		fmt.Fprintln(os.Stderr, "monitor: this is started by the daemon, not by hand")
		return 1
	}
	m := &monitor{launch: *q.Launch, waiting: map[int]func(unix.WaitStatus){}, execs: map[string]*execution{},
		oom: newOOMs(), exited: make(chan struct{}), leave: make(chan struct{}),
		runtime: oci.Runtime{Root: filepath.Join(q.Launch.Dir, stateDir), Init: initArgs, Warn: warn}}
	listener, err := m.create()
	if err != nil {
		_ = os.Remove(filepath.Join(m.launch.Dir, logFile))
		_ = hold.send(failure(err)) // last: the caller may remove the directory now
		return 1
	}
	go m.reap(signals)
	m.conns = 1
	if err := hold.send(response{Pid: m.pid}); err != nil {
		_ = m.runtime.Delete(m.launch.ID, true) // nobody knows of this container: it never was
		return 1
	}
	go m.holdUntilClosed(hold)
	go m.serve(listener)
	go m.watchMemory()
	m.settle()
	<-m.leave
	if err := m.finish(); err != nil {
		warn(err.Error()) // shim.log says what is left
		return 1
	}
	return 0
}

// settle waits for the container to have run for a moment and then gives back what starting needed. A container that has ended by
// then never pays for it.
func (m *monitor) settle() {
	timer := time.NewTimer(settleAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
		debug.SetGCPercent(50)
		debug.FreeOSMemory()
	case <-m.leave:
	}
}

// warn writes to shim.log.
func warn(text string) {
	fmt.Fprintln(os.Stderr, time.Now().UTC().Format(time.RFC3339), text)
}

// create makes the container and the control socket.
func (m *monitor) create() (*conn, error) {
	l := m.launch
	var err error
	if m.log, err = openLog(l.Log); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if m.stdio, err = openStdio(l.Terminal, l.Stdin); err != nil {
		return nil, err
	}
	var outputs [2]*os.File
	o := oci.CreateOptions{Filter: l.Filter}
	var console *os.File
	if l.Terminal {
		if console, o.Console, err = socketpair(); err != nil {
			return nil, err
		}
		defer console.Close()
		defer o.Console.Close()
	} else {
		for i := range outputs {
			if outputs[i], m.stdio.child[i+1], err = pipe(); err != nil {
				return nil, err
			}
		}
	}
	o.Stdio = m.stdio.child
	listener, err := listen(l.Dir)
	if err != nil {
		return nil, err
	}
	m.children.Lock()
	defer m.children.Unlock()
	if m.pid, err = m.runtime.Create(l.ID, l.Bundle, o); err != nil {
		_ = os.Remove(filepath.Join(l.Dir, socketFile))
		_ = os.Remove(filepath.Join(l.Dir, stateDir))
		return nil, err
	}
	for _, f := range m.stdio.child {
		f.Close()
	}
	if l.Terminal {
		master, err := receiveTerminal(console)
		if err != nil {
			_ = m.runtime.Delete(l.ID, true)
			return nil, err
		}
		m.stdio.master, m.stdio.in, outputs[0] = master, master, master
	} else {
		for i := range outputs {
			if outputs[i], err = pollable(outputs[i]); err != nil {
				return nil, err
			}
		}
		if m.stdio.in != nil {
			if m.stdio.in, err = pollable(m.stdio.in); err != nil {
				return nil, err
			}
		}
	}
	m.stdio.run(outputs, m.log)
	m.waiting[m.pid] = m.initExited
	return listener, m.writePid()
}

func (m *monitor) writePid() error {
	pid := fmt.Sprintf(`{"version":1,"pid":%d,"container":%d}`+"\n", os.Getpid(), m.pid)
	return atomicfile.WriteVolatile(filepath.Join(m.launch.Dir, pidFile), []byte(pid), 0o600)
}

func socketpair() (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console"), nil
}

// reap waits for children whenever one may have ended: the container's init, execs, and strays whose own parents are gone.
func (m *monitor) reap(signals <-chan os.Signal) {
	m.reapNow()
	for s := range signals {
		if s == unix.SIGCHLD {
			m.reapNow()
		}
	}
}

func (m *monitor) reapNow() {
	m.children.Lock()
	defer m.children.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if done := m.waiting[pid]; done != nil {
			delete(m.waiting, pid)
			go done(ws)
		}
	}
}

func exitOf(ws unix.WaitStatus) Exit {
	e := Exit{ExitedAt: time.Now().UTC()}
	if ws.Signaled() {
		e.Signal = int(ws.Signal())
		e.Code = 128 + e.Signal
	} else {
		e.Code = ws.ExitStatus()
	}
	return e
}

// initExited puts the exit on disk and then lets everybody know.
func (m *monitor) initExited(ws unix.WaitStatus) {
	e := exitOf(ws)
	if g, err := m.runtime.Group(m.launch.ID); err == nil {
		e.OOMKilled = g.OOMKills() > 0
	}
	if e.OOMKilled {
		e.OOM = m.oom.lastSoon()
	}
	drained := make(chan struct{})
	go func() {
		m.stdio.pumps.Wait()
		close(drained)
	}()
	timer := time.NewTimer(drainPatience)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
	}
	m.mu.Lock()
	e.StartedAt = m.started
	m.mu.Unlock()
	if err := writeExit(m.launch.Dir, e); err != nil {
		warn(err.Error())
	}
	m.mu.Lock()
	m.exit = &e
	m.mu.Unlock()
	close(m.exited)
	m.leaveIfAlone()
}

// writeExit outlives every process, not a power cut: that ends the containers themselves and empties the run directory. An fsync
// would hold each exit up by 3 to 6 ms where the run directory is on a disk.
func writeExit(dir string, e Exit) error {
	data, err := json.Marshal(exitRecord{Version: 1, Exit: e})
	if err != nil {
		return err
	}
	return atomicfile.WriteVolatile(filepath.Join(dir, exitFile), append(data, '\n'), 0o600)
}

// leaveIfAlone ends the monitor once the container has ended and nobody is connected.
func (m *monitor) leaveIfAlone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exit != nil && m.conns == 0 {
		m.leaveLocked()
	}
}

func (m *monitor) leaveLocked() {
	if !m.leaving {
		m.leaving = true
		close(m.leave)
	}
}

// finish removes everything but the exit record and the log. Doing it again does nothing.
func (m *monitor) finish() error {
	m.children.Lock()
	defer m.children.Unlock()
	if err := m.runtime.Delete(m.launch.ID, true); err != nil {
		return err
	}
	m.log.close()
	for _, name := range []string{socketFile, pidFile, stateDir} {
		_ = os.Remove(filepath.Join(m.launch.Dir, name))
	}
	if st, err := os.Stat(filepath.Join(m.launch.Dir, logFile)); err == nil && st.Size() == 0 {
		_ = os.Remove(filepath.Join(m.launch.Dir, logFile))
	}
	return nil
}

func (m *monitor) start() error {
	m.children.Lock()
	defer m.children.Unlock()
	m.mu.Lock()
	m.started = time.Now().UTC()
	m.mu.Unlock()
	err := m.runtime.Start(m.launch.ID)
	if err != nil {
		m.mu.Lock()
		m.started = time.Time{}
		m.mu.Unlock()
	}
	return err
}

func (m *monitor) signal(q request) error {
	sig := syscall.Signal(q.Signal)
	if q.ExecID != "" {
		x, err := m.findExec(q.ExecID)
		if err != nil {
			return err
		}
		m.children.Lock()
		defer m.children.Unlock()
		if m.waiting[x.pid] == nil {
			return goneError(q.ExecID)
		}
		return unix.Kill(x.pid, sig) // not reaped yet, as the lock is ours
	}
	return m.runtime.Kill(m.launch.ID, sig, q.All)
}

func (m *monitor) wait(ctx context.Context) *Exit {
	select {
	case <-m.exited:
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.exit
	case <-ctx.Done():
		return nil
	}
}
