// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/knarr/knarr/internal/errs"
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// interpret runs a filter as the kernel would, for one system call.
func interpret(t *testing.T, f *filter, arch, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	data := binary.LittleEndian.AppendUint32(nil, nr)
	data = binary.LittleEndian.AppendUint32(data, arch)
	data = binary.LittleEndian.AppendUint64(data, 0)
	for _, a := range args {
		data = binary.LittleEndian.AppendUint64(data, a)
	}
	var acc uint32
	for pc := 0; pc < len(f.Code)/8; pc++ {
		in := f.Code[8*pc:]
		code, jt, jf, k := binary.NativeEndian.Uint16(in), int(in[2]), int(in[3]), binary.NativeEndian.Uint32(in[4:])
		jump := func(cond bool) {
			if cond {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch code {
		case bpfLoad:
			acc = binary.LittleEndian.Uint32(data[k:])
		case bpfAnd:
			acc &= k
		case bpfJeq:
			jump(acc == k)
		case bpfJgt:
			jump(acc > k)
		case bpfJge:
			jump(acc >= k)
		case bpfJump:
			pc += int(k)
		case unix.BPF_RET | unix.BPF_K:
			return k
		default:
			t.Fatalf("instruction %#x", code)
		}
	}
	t.Fatal("the filter ran off its end")
	return 0
}

func compile(t *testing.T, s *specs.LinuxSeccomp) *filter {
	t.Helper()
	f, err := compileSeccomp(s)
	must(t, err)
	return f
}

func TestConditions(t *testing.T) {
	interesting := []uint64{0, 1, 2, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1 << 63, 1<<64 - 1}
	holds := map[specs.LinuxSeccompOperator]func(a, v, two uint64) bool{
		specs.OpEqualTo: func(a, v, _ uint64) bool { return a == v }, specs.OpNotEqual: func(a, v, _ uint64) bool { return a != v },
		specs.OpLessThan: func(a, v, _ uint64) bool { return a < v }, specs.OpLessEqual: func(a, v, _ uint64) bool { return a <= v },
		specs.OpGreaterThan: func(a, v, _ uint64) bool { return a > v }, specs.OpGreaterEqual: func(a, v, _ uint64) bool { return a >= v },
		specs.OpMaskedEqual: func(a, v, two uint64) bool { return a&v == two },
	}
	for op, want := range holds {
		for _, v := range interesting {
			two := interesting[rand.IntN(len(interesting))] & v
			f := compile(t, &specs.LinuxSeccomp{DefaultAction: specs.ActKill, Syscalls: []specs.LinuxSyscall{
				{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 2, Op: op, Value: v, ValueTwo: two}}}}})
			for _, a := range interesting {
				got := interpret(t, f, nativeArch, unix.SYS_READ, [6]uint64{7, 7, a}) == unix.SECCOMP_RET_ALLOW
				if got != want(a, v, two) {
					t.Errorf("%#x %s %#x (%#x) is %v", a, op, v, two, got)
				}
			}
		}
	}
}

func TestRulesOfTheDefaultProfile(t *testing.T) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}}}
	profile, err := seccomp.GetDefaultProfile(spec)
	must(t, err)
	f := compile(t, profile)
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
		want uint32
	}{
		{unix.SYS_READ, [6]uint64{}, unix.SECCOMP_RET_ALLOW},
		{unix.SYS_EXECVE, [6]uint64{}, unix.SECCOMP_RET_ALLOW},
		{unix.SYS_MOUNT, [6]uint64{}, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{unix.SYS_UNSHARE, [6]uint64{unix.CLONE_NEWUSER}, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{unix.SYS_CLONE, [6]uint64{unix.CLONE_NEWUSER}, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{unix.SYS_CLONE, [6]uint64{unix.CLONE_VM}, unix.SECCOMP_RET_ALLOW},
		{unix.SYS_CLONE3, [6]uint64{}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{5000, [6]uint64{}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	} {
		if got := interpret(t, f, nativeArch, c.nr, c.args); got != c.want {
			t.Errorf("call %d%v: %#x, want %#x", c.nr, c.args, got, c.want)
		}
	}
	if got := interpret(t, f, 0xdead, unix.SYS_READ, [6]uint64{}); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("an unknown architecture gets %#x", got)
	}
}

func TestUnknownPolicyFailsClosed(t *testing.T) {
	for name, s := range map[string]*specs.LinuxSeccomp{
		"empty":    {},
		"action":   {DefaultAction: "SCMP_ACT_SHRUG"},
		"notify":   {DefaultAction: specs.ActNotify},
		"rule":     {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}}}},
		"operator": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActKill, Args: []specs.LinuxSeccompArg{{Op: "?"}}}}},
		"argument": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActKill, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
	} {
		if _, err := compileSeccomp(s); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: error %v, want Invalid", name, err)
		}
	}
	if _, err := compileSeccomp(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x"}); !errors.Is(err, errs.Unsupported) {
		t.Errorf("listener: error %v, want Unsupported", err)
	}
}
