// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// The real-time signals as the C library of containers counts them; the kernel's first two are its own.
const (
	sigRTMin = 34
	sigRTMax = 64
)

// parseSignal reads "KILL", "SIGKILL", "9", "SIGRTMIN+3" or "RTMAX-1".
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, errs.New(errs.Invalid, "Invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	for prefix, base := range map[string]int{"SIGRTMIN": sigRTMin, "SIGRTMAX": sigRTMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		off := 0
		if rest != "" {
			n, err := strconv.Atoi(rest)
			if err != nil || rest[0] != '+' && rest[0] != '-' {
				break
			}
			off = n
		}
		if n := base + off; n >= sigRTMin && n <= sigRTMax {
			return syscall.Signal(n), nil
		}
	}
	return 0, errs.New(errs.Invalid, "Invalid signal: %s", s)
}

// ParseSignal reads a signal by name or number, as the API takes it.
func ParseSignal(s string) (syscall.Signal, error) { return parseSignal(s) }
