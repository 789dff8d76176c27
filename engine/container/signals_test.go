// SPDX-License-Identifier: Apache-2.0

package container

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// The first is from the seed: an agent that catches SIGUSR1 and more, with 0x0180 in SigIgn.
func TestSignalNames(t *testing.T) {
	for _, c := range []struct {
		set  SignalSet
		want []string
	}{
		{0, []string{}},
		{0x4002, []string{"SIGINT", "SIGTERM"}},
		{0x4203, []string{"SIGHUP", "SIGINT", "SIGUSR1", "SIGTERM"}},
		{1 << 31, []string{"32"}},
		{1<<33 | 1<<34 | 1<<63, []string{"SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+30"}},
	} {
		got := c.set.Names()
		if !slices.Equal(got, c.want) {
			t.Errorf("%x: %q, want %q", c.set, got, c.want)
		}
		for _, name := range got { // every name reads back
			if sig, err := parseSignal(name); err != nil || !c.set.Has(sig) {
				t.Errorf("%s: %v %v", name, sig, err)
			}
		}
	}
}

func TestWhichSignalsReachAProcess(t *testing.T) {
	term := SignalSet(1 << (unix.SIGTERM - 1))
	for _, c := range []struct {
		name string
		s    Signals
		sig  unix.Signal
		want bool
	}{
		{"PID 1 by default", Signals{First: true}, unix.SIGTERM, false},
		{"PID 1 that catches", Signals{First: true, Caught: term}, unix.SIGTERM, true},
		{"PID 1 that catches another", Signals{First: true, Caught: 1}, unix.SIGTERM, false},
		{"PID 1 that blocks", Signals{First: true, Blocked: term}, unix.SIGTERM, true},
		{"PID 1 that reads it", Signals{First: true, Queued: term}, unix.SIGTERM, true},
		{"PID 1 that ignores and blocks", Signals{First: true, Ignored: term, Blocked: term}, unix.SIGTERM, true},
		{"PID 1 under a debugger", Signals{First: true, Traced: true}, unix.SIGTERM, true},
		{"PID 1 and SIGKILL", Signals{First: true}, unix.SIGKILL, true},
		{"the host's PID namespace", Signals{}, unix.SIGTERM, true},
		{"the host's, ignoring", Signals{Ignored: term}, unix.SIGTERM, false},
	} {
		if got := c.s.Reaches(c.sig); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestParseSignals(t *testing.T) {
	s, err := parseSignals("Name:\tx\nTracerPid:\t0\nNSpid:\t812\t7\t1\nSigPnd:\t0000000000000000\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004002\n")
	if want := (Signals{Caught: 0x4002, Ignored: 0x1000, Blocked: 1, First: true}); err != nil || s != want {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := parseSignals("Name:\tx\n"); err == nil {
		t.Error("nothing read is no error")
	}
	if s, _ := parseSignals("NSpid:\t1\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n"); s.First {
		t.Error("the host's own PID 1 is first of no container")
	}
}

func TestSignalFDsOfThisProcess(t *testing.T) {
	var mask unix.Sigset_t
	mask.Val[0] = 1 << (unix.SIGUSR2 - 1)
	fd, err := unix.Signalfd(-1, &mask, unix.SFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	got, err := signalFDs("/proc/self/fdinfo")
	if err != nil || !got.Has(unix.SIGUSR2) || got.Has(unix.SIGTERM) {
		t.Errorf("%x %v", got, err)
	}
}
