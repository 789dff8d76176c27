// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// onThread runs do on a thread of its own that ends with it, so that do may change the thread's namespaces. The process's
// first thread is not used: it outlives its goroutine, and /proc/self shows its namespaces as the process's.
func onThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(do) // while this goroutine keeps the first thread
			runtime.UnlockOSThread()
			return
		}
		done <- do()
	}()
	return <-done
}

// pinNamespaces makes a sandbox's UTS and IPC namespaces, sets the hostname and the sysctls in them and in its network
// namespace, and keeps them by bind mounts: no process is needed.
func pinNamespaces(s *sandbox, spec SandboxSpec, hostname string) error {
	flags := 0
	kinds := map[string]int{"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC}
	if spec.HostNetwork {
		delete(kinds, "uts")
	}
	if spec.HostIPC {
		delete(kinds, "ipc")
	}
	for _, flag := range kinds {
		flags |= flag
	}
	if flags == 0 && len(spec.Sysctls) == 0 {
		return nil
	}
	return onThread(func() error {
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if _, own := kinds["uts"]; own && hostname != "" {
			if err := unix.Sethostname([]byte(hostname)); err != nil {
				return fmt.Errorf("set hostname %q: %w", hostname, err)
			}
		}
		for kind := range kinds {
			if err := pin("/proc/thread-self/ns/"+kind, s.ns(kind)); err != nil {
				return err
			}
		}
		if len(spec.Sysctls) > 0 && !spec.HostNetwork {
			if err := joinNamespace(s.ns("net"), unix.CLONE_NEWNET); err != nil {
				return err
			}
		}
		for key, value := range spec.Sysctls {
			if err := writeSysctl(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

func pin(from, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o400)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(from, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	return nil
}

func joinNamespace(path string, kind int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, kind); err != nil {
		return fmt.Errorf("join namespace %s: %w", path, err)
	}
	return nil
}

// writeSysctl sets a key that checkSysctl admitted. Dots separate, unless slashes do.
func writeSysctl(key, value string) error {
	name := key
	if !strings.Contains(key, "/") {
		name = strings.ReplaceAll(key, ".", "/")
	}
	f, err := os.OpenFile(filepath.Join("/proc/sys", name), os.O_WRONLY, 0)
	if err != nil {
		return errs.New(errs.Invalid, "sysctl %s: %w", key, err)
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return errs.New(errs.Invalid, "sysctl %s=%s: %w", key, value, err)
	}
	return nil
}

// dialTimeout bounds a connect to a port that drops packets.
const dialTimeout = 10 * time.Second

// DialSandbox connects to a TCP port on localhost as the sandbox's network namespace sees it.
func (e *Engine) DialSandbox(ctx context.Context, id string, port uint16) (net.Conn, error) {
	s, err := e.Sandbox(id)
	if err != nil {
		return nil, err
	}
	if s.NetnsPath == "" {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", net.JoinHostPort("localhost", strconv.Itoa(int(port))))
	}
	var conn net.Conn
	err = onThread(func() error {
		if err := joinNamespace(s.NetnsPath, unix.CLONE_NEWNET); err != nil {
			return err
		}
		var v6err error
		c, err := connectLocal(unix.AF_INET, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
		if err != nil {
			c, v6err = connectLocal(unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: [16]byte{15: 1}})
			if v6err != nil {
				return err
			}
		}
		conn = c
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("connect to port %d in sandbox %s: %w", port, id, err)
	}
	return conn, nil
}

// connectLocal connects on this very thread: a socket belongs to the namespace of the thread that makes it.
func connectLocal(family int, to unix.Sockaddr) (net.Conn, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "sandbox-port")
	defer f.Close()
	limit := unix.NsecToTimeval(int64(dialTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, err
	}
	for {
		err = unix.Connect(fd, to)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return net.FileConn(f)
}
