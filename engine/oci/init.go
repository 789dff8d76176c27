// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Init is the process that becomes the container's program. It is started by Create and Exec only, with the number of
// preserved descriptors as its one argument, and never returns: it executes, or it reports an error and ends.
//
// Its descriptors: 0-2 the program's streams, then the preserved ones, then the wire, then the gate, the console socket or a mount namespace.
func Init(args []string) {
	runtime.LockOSThread() // namespaces, users and capabilities belong to threads
	debug.SetGCPercent(-1)
	n := 0
	if len(args) == 1 {
		n, _ = strconv.Atoi(args[0])
	}
	syscall.CloseOnExec(3 + n)
	w := newWire(os.NewFile(uintptr(3+n), "wire"))
	var c initConfig
	if err := w.dec.Decode(&c); err != nil {
		fmt.Fprintln(os.Stderr, "init: this is started by create and exec, not by hand")
		os.Exit(1)
	}
	i := initProcess{initConfig: c, wire: w, gate: 4 + n, extra: 5 + n}
	err := i.run()
	_ = w.enc.Encode(errorMessage(err))
	os.Exit(1)
}

type initProcess struct {
	initConfig
	wire     *wire
	gate     int
	extra    int // console socket
	warnings []string
	slave    int
}

func (i *initProcess) run() error {
	i.slave = -1
	// Nobody in a joined pid namespace shall look into this process before it has become the program.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("set dumpable: %w", err)
	}
	if err := unix.CloseRange(3+uint(i.Preserve), 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("setsid: %w", err)
	}
	if i.NewCgroup {
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("new cgroup namespace: %w", err)
		}
	}
	if !i.LimitsSet {
		warnings, err := limits(i.Process, 0)
		if err != nil {
			return err
		}
		i.warnings = warnings
	}
	if i.JoinMount {
		if err := i.joinMount(); err != nil {
			return err
		}
	}
	a := &applier{root: root{fd: unix.AT_FDCWD}, empty: -1, null: -1, slave: -1, console: i.sendConsole, hooks: i.runHooks, trees: i.extra}
	if i.Console {
		a.trees++
	}
	if i.MountNS > 0 {
		if err := enterMount(a.trees + i.MountNS - 1); err != nil {
			return err
		}
	}
	if err := a.apply(i.Steps); err != nil {
		return err
	}
	if a.slave >= 0 {
		i.slave = a.slave
	}
	a.close()
	return i.become()
}

// enterMount joins a mount namespace. Threads of one process share their root and cwd until told otherwise.
func enterMount(fd int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare fs: %w", err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("join mount namespace: %w", err)
	}
	return nil
}

// joinMount enters a running container's mount namespace and opens a terminal there.
func (i *initProcess) joinMount() error {
	if err := enterMount(i.gate); err != nil {
		return err
	}
	if i.Chroot {
		top := i.extra
		if i.Console {
			top++
		}
		if err := unix.Fchdir(top); err != nil {
			return err
		}
		if err := unix.Chroot("."); err != nil {
			return fmt.Errorf("chroot: %w", err)
		}
	}
	if i.Console {
		a := &applier{root: root{fd: unix.AT_FDCWD}, empty: -1, null: -1, slave: -1, console: i.sendConsole}
		fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		a.root.fd = fd
		if err := a.openConsole(Step{}); err != nil {
			return err
		}
		i.slave = a.slave
		a.close()
	}
	return nil
}

func (i *initProcess) sendConsole(master int) error {
	if !i.Console {
		return errs.New(errs.Invalid, "process.terminal is set, but nobody takes the terminal: give a console socket")
	}
	err := unix.Sendmsg(i.extra, []byte("/dev/ptmx"), unix.UnixRights(master), nil, 0)
	if err != nil {
		return fmt.Errorf("hand over the terminal: %w", err)
	}
	return unix.Close(i.extra)
}

func (i *initProcess) become() error {
	if i.slave >= 0 {
		if err := takeTerminal(i.slave, i.Process.ConsoleSize); err != nil {
			return err
		}
	}
	p := i.Process
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	if err := i.Standing.take(); err != nil {
		return err
	}
	ownStreams(int(p.User.UID))
	// Without no_new_privs a filter needs CAP_SYS_ADMIN. It is kept aside, not in effect, so that the filter can come last and need
	// not allow what is done here.
	caps := i.Caps
	if i.Seccomp != nil && !p.NoNewPrivileges {
		caps.Permitted |= 1 << unix.CAP_SYS_ADMIN
	}
	if err := become(p, caps, i.Caps.Bounding); err != nil {
		return err
	}
	file, err := lookPath(p.Args[0], p.Env)
	if err != nil {
		return err
	}
	if err := i.wire.enc.Encode(message{Say: sayReady, Warnings: i.warnings}); err != nil {
		return err
	}
	if i.Gate {
		if err := i.waitAtGate(); err != nil {
			return err
		}
		if i.Hooks != nil {
			if err := runHooks("startContainer", i.Hooks.StartContainer, i.State); err != nil {
				return err
			}
		}
	}
	env := p.Env
	if i.ListenPid {
		env = append(env, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	}
	resetSignals()
	if i.Seccomp != nil {
		if err := i.loadFilter(caps); err != nil {
			return err
		}
	}
	return execError(p.Args[0], syscall.Exec(file, p.Args, env))
}

// loadFilter puts the filter on and gives up what only that needed.
func (i *initProcess) loadFilter(caps capSets) error {
	if caps.Permitted == i.Caps.Permitted {
		return i.Seccomp.load()
	}
	caps.Effective |= 1 << unix.CAP_SYS_ADMIN
	if err := capset(caps); err != nil {
		return err
	}
	if err := i.Seccomp.load(); err != nil {
		return err
	}
	return capset(i.Caps)
}

// waitAtGate blocks in accept(2). It is a scheduled system call and no raw one: around a raw one the Go runtime believes that
// code is running and tries to preempt it a hundred times a second. It starts no thread either, as nothing else wants to
// run: the limit on tasks is in force by now. The connection replaces the wire: it tells start about an error, or by closing that all is well.
func (i *initProcess) waitAtGate() error {
	for {
		fd, _, err := unix.Accept4(i.gate, unix.SOCK_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait at the gate: %w", err)
		}
		i.wire.f.Close()
		i.wire.enc = json.NewEncoder(rawWriter(fd))
		return nil
	}
}

// rawWriter writes to a descriptor without the runtime's poller.
type rawWriter int

func (w rawWriter) Write(p []byte) (int, error) { return unix.Write(int(w), p) }

// runHooks is OpHooks: first the runtime's hooks, by the parent, then the container's, here, both before the pivot.
func (i *initProcess) runHooks() error {
	if i.HostHooks {
		if err := i.wire.enc.Encode(message{Say: sayHooks}); err != nil {
			return err
		}
		var m message
		if err := i.wire.dec.Decode(&m); err != nil || m.Say != sayGo {
			return fmt.Errorf("wait for the runtime's hooks: %w", err)
		}
	}
	if i.Hooks == nil {
		return nil
	}
	return runHooks("createContainer", i.Hooks.CreateContainer, i.State)
}

// runHooks runs hooks one after the other with the state on their standard input. The first that fails ends it.
func runHooks(kind string, hooks []specs.Hook, state specs.State) error {
	for n, h := range hooks {
		if err := runHook(h, state); err != nil {
			return fmt.Errorf("hook %s[%d] %s: %w", kind, n, h.Path, err)
		}
	}
	return nil
}

func runHook(h specs.Hook, state specs.State) error {
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{Path: h.Path, Args: h.Args, Env: h.Env, Stdin: strings.NewReader(string(input))}
	if len(cmd.Args) == 0 {
		cmd.Args = []string{h.Path}
	}
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	if h.Timeout != nil && *h.Timeout > 0 {
		timer := time.AfterFunc(time.Duration(*h.Timeout)*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// tail keeps the first kilobytes of what a hook says.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p[:min(len(p), 4096-len(*t))]...)
	return len(p), nil
}
