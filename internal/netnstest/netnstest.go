// SPDX-License-Identifier: Apache-2.0

// Package netnstest runs a package's tests in a network namespace of their own.
//
// Main, called from TestMain, starts the test binary again in a fresh network and mount namespace with lo up, so that links,
// addresses, routes, nftables and sysctls of the machine are out of reach, several test runs cannot collide, and everything
// is gone with the process, also when it is killed. Without root, tests that call Need are skipped.
//
// Only tests import it.
package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const marker = "KNARR_TEST_NETNS"

// Main runs the tests and ends the process.
func Main(m *testing.M) {
	switch {
	case os.Getenv(marker) != "":
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "netnstest:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case os.Geteuid() != 0:
		os.Exit(m.Run())
	default:
		os.Exit(again())
	}
}

// Need skips the test unless it runs in its own namespace.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv(marker) == "" {
		t.Skip("needs root, to make network namespaces")
	}
}

func again() int {
	// The child dies with this thread, so this thread must not be one that Go retires.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "netnstest:", err)
		return 1
	}
}

func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
