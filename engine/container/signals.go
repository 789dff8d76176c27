// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SignalSet is a set of signals as the kernel shows it: bit n-1 is signal n.
type SignalSet uint64

// Has says whether the signal is in the set.
func (s SignalSet) Has(sig syscall.Signal) bool { return sig >= 1 && sig <= 64 && s&(1<<(sig-1)) != 0 }

// Names lists the set in the order of the numbers.
func (s SignalSet) Names() []string {
	names := []string{}
	for set := uint64(s); set != 0; set &= set - 1 {
		names = append(names, signalName(syscall.Signal(bits.TrailingZeros64(set)+1)))
	}
	return names
}

// signalName is the name of a signal; the two that the C library keeps for itself, 32 and 33, have only numbers.
func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	switch {
	case sig == sigRTMin:
		return "SIGRTMIN"
	case sig > sigRTMin && sig <= sigRTMax:
		return "SIGRTMIN+" + strconv.Itoa(int(sig-sigRTMin))
	}
	return strconv.Itoa(int(sig))
}

// Signals is what a process does with signals, from /proc/<pid>/status and its signalfds (signal(7), proc_pid_status(5)).
type Signals struct {
	Caught, Ignored, Blocked SignalSet
	Queued                   SignalSet // read from signalfds
	First                    bool      // PID 1 of its namespace: the kernel keeps default actions from it
	Traced                   bool      // its tracer sees signals before it does
}

// Reaches says whether the process can ever notice sig, sent from outside its namespace. What is neither caught nor blocked,
// and would be ignored, is dropped the moment it is sent: there is nothing to wait for then.
func (s Signals) Reaches(sig syscall.Signal) bool {
	switch {
	case sig == unix.SIGKILL || sig == unix.SIGSTOP:
		return true
	case s.Traced || s.Caught.Has(sig) || s.Blocked.Has(sig) || s.Queued.Has(sig):
		return true
	}
	return !s.Ignored.Has(sig) && !s.First
}

// readSignals asks the kernel about a process of the host's PID namespace.
func readSignals(pid int) (Signals, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Signals{}, err
	}
	s, err := parseSignals(string(text))
	if err != nil {
		return s, err
	}
	s.Queued, err = signalFDs(filepath.Join(dir, "fdinfo"))
	return s, err
}

func parseSignals(status string) (Signals, error) {
	var s Signals
	found := 0
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		var to *SignalSet
		switch key {
		case "SigCgt":
			to = &s.Caught
		case "SigIgn":
			to = &s.Ignored
		case "SigBlk":
			to = &s.Blocked
		case "NSpid": // in each namespace from ours down to its own
			ids := strings.Fields(value)
			s.First = len(ids) > 1 && ids[len(ids)-1] == "1"
		case "TracerPid":
			s.Traced = value != "0"
		}
		if to == nil {
			continue
		}
		set, err := strconv.ParseUint(value, 16, 64)
		if err != nil {
			return s, fmt.Errorf("read %s: %w", key, err)
		}
		*to = SignalSet(set)
		found++
	}
	if found != 3 {
		return s, fmt.Errorf("read signals: the kernel shows %d of 3 sets", found)
	}
	return s, nil
}

// signalFDs adds up the masks of a process's signalfds; each shows its own as "sigmask:" (proc_pid_fdinfo(5)).
func signalFDs(dir string) (SignalSet, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var all SignalSet
	for _, d := range entries {
		text, err := os.ReadFile(filepath.Join(dir, d.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(text)) {
			if mask, ok := strings.CutPrefix(line, "sigmask:"); ok {
				set, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
				if err != nil {
					return 0, fmt.Errorf("read signalfd: %w", err)
				}
				all |= SignalSet(set)
			}
		}
	}
	return all, nil
}

// Signals says what a running container's PID 1 does with signals; false when it does not run.
func (e *Engine) Signals(ref string) (Signals, bool, error) {
	c, err := e.find(ref)
	if err != nil {
		return Signals{}, false, err
	}
	st := c.status()
	if !st.running() {
		return Signals{}, false, nil
	}
	s, err := readSignals(st.Pid)
	if err != nil || c.live() == nil || c.status().Pid != st.Pid { // it ended while we looked
		return Signals{}, false, nil
	}
	return s, true, nil
}
