// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// PID1 is the small init that a container may ask for (`docker run --init`), and with no argument the process that holds a
// pod's shared PID namespace. It runs args, passes signals on to it, reaps whatever is orphaned, and answers its exit code;
// with nothing to run it waits for SIGTERM or SIGINT.
func PID1(args []string) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	child := 0
	if len(args) > 0 {
		pid, err := spawn(args)
		if err != nil {
			fmt.Fprintln(os.Stderr, "init:", err)
			if errors.Is(err, fs.ErrPermission) {
				return 126
			}
			return 127
		}
		child = pid
	}
	for s := range signals {
		sig, ok := s.(syscall.Signal)
		switch {
		case !ok, sig == syscall.SIGURG: // the Go runtime's own
		case sig == syscall.SIGCHLD:
			if code, over := reap(child); over {
				return code
			}
		case child > 0:
			_ = unix.Kill(child, sig) // it may just have ended
		case sig == syscall.SIGTERM || sig == syscall.SIGINT:
			return 0
		}
	}
	return 0
}

// spawn starts the program in a process group of its own, in the foreground of the terminal if there is one.
func spawn(args []string) (int, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	_, err = unix.IoctlGetTermios(0, unix.TCGETS)
	attr := &syscall.SysProcAttr{Setpgid: true, Foreground: err == nil}
	return syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attr})
}

// reap takes every child that has ended; over: the program was among them.
func reap(child int) (code int, over bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return code, over
		}
		if pid == child && child > 0 {
			code, over = ws.ExitStatus(), true
			if ws.Signaled() {
				code = 128 + int(ws.Signal())
			}
		}
	}
}
