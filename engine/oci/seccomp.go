// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// filter is a compiled seccomp policy: the bytes of an array of struct sock_filter.
type filter struct {
	Code  []byte `json:"code"`
	Flags uint   `json:"flags,omitempty"`
}

// load puts the filter on the calling thread; it can never be taken off.
func (f *filter) load() error {
	code := make([]unix.SockFilter, len(f.Code)/8)
	for i := range code {
		b := f.Code[8*i:]
		code[i] = unix.SockFilter{Code: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:])}
	}
	prog := &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), uintptr(unsafe.Pointer(prog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return fmt.Errorf("load seccomp filter: %w", errno)
	}
	return nil
}

// compileSeccomp turns a policy into a filter. What it does not understand is an error, never a hole; names of system calls
// that this architecture does not have are skipped, as policies list those of all.
func compileSeccomp(s *specs.LinuxSeccomp) (*filter, error) {
	if s == nil {
		return nil, nil
	}
	if s.ListenerPath != "" {
		return nil, errs.New(errs.Unsupported, "linux.seccomp: a listener is not supported")
	}
	f := new(filter)
	for _, flag := range s.Flags {
		switch flag {
		case specs.LinuxSeccompFlagLog:
			f.Flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			f.Flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // there is one thread by then
		default:
			return nil, errs.New(errs.Unsupported, "linux.seccomp.flags: %q is not supported", flag)
		}
	}
	native, err := policy(s, nativeCalls)
	if err != nil {
		return nil, err
	}
	code := []bpf{{code: bpfLoad, k: 4}} // seccomp_data.arch
	body := search(native)
	if nativeLimit != 0 {
		body = append([]bpf{{code: bpfJge, k: nativeLimit, jf: 1}, ret(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))}, body...)
	}
	code = append(code, section(nativeArch, body)...)
	if slices.Contains(s.Architectures, specs.Arch(compatName)) {
		compat, err := policy(s, compatCalls)
		if err != nil {
			return nil, err
		}
		code = append(code, section(compatArch, search(compat))...)
	}
	code = append(code, ret(unix.SECCOMP_RET_KILL_PROCESS))
	if len(code) > unix.BPF_MAXINSNS {
		return nil, errs.New(errs.TooLarge, "linux.seccomp: the filter has %d instructions; the kernel takes %d", len(code), unix.BPF_MAXINSNS)
	}
	for _, i := range code {
		f.Code = binary.NativeEndian.AppendUint16(f.Code, i.code)
		f.Code = append(f.Code, byte(i.jt), byte(i.jf))
		f.Code = binary.NativeEndian.AppendUint32(f.Code, i.k)
	}
	return f, nil
}

// segment is what happens to the system calls from number start to the next segment: rules, tried in turn, and then an action.
type segment struct {
	start  uint32
	rules  []rule
	action uint32
}

type rule struct {
	args   []specs.LinuxSeccompArg
	action uint32
}

// policy sorts the rules by number.
func policy(s *specs.LinuxSeccomp, table string) ([]segment, error) {
	fallback, err := action(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("linux.seccomp.defaultAction: %w", err)
	}
	numbers := map[string]uint32{}
	for line := range strings.Lines(table) {
		name, n, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, _ := strconv.ParseUint(n, 10, 32)
		numbers[name] = uint32(v)
	}
	calls := map[uint32]*segment{}
	var last uint32
	var faults []error
	for i, c := range s.Syscalls {
		act, err := action(c.Action, c.ErrnoRet)
		if err != nil {
			faults = append(faults, fmt.Errorf("linux.seccomp.syscalls[%d]: %w", i, err))
			continue
		}
		for _, arg := range c.Args {
			if arg.Index > 5 || !slices.Contains(operators[:], arg.Op) {
				faults = append(faults, errs.New(errs.Invalid, "linux.seccomp.syscalls[%d]: argument %d with operator %q", i, arg.Index, arg.Op))
			}
		}
		for _, name := range c.Names {
			n, ok := numbers[name]
			if !ok {
				continue
			}
			last = max(last, n)
			if calls[n] == nil {
				calls[n] = &segment{start: n, action: fallback}
			}
			calls[n].add(c.Args, act)
		}
	}
	return spread(calls, fallback, last), errors.Join(faults...)
}

// add puts a rule on a call. Several conditions on one argument are alternatives, as libseccomp's users write them.
func (g *segment) add(args []specs.LinuxSeccompArg, act uint32) {
	if len(args) == 0 {
		g.action = act
		return
	}
	var seen [6]bool
	repeated := false
	for _, a := range args {
		if a.Index < 6 {
			repeated = repeated || seen[a.Index]
			seen[a.Index] = true
		}
	}
	if !repeated {
		g.rules = append(g.rules, rule{args, act})
		return
	}
	for i := range args {
		g.rules = append(g.rules, rule{args[i : i+1], act})
	}
}

// spread lays the calls out over all numbers and joins neighbours of one fate. Numbers above every call that the policy
// knows get ENOSYS instead of another errno: programs fall back to older calls then, and not on EPERM.
func spread(calls map[uint32]*segment, fallback, last uint32) []segment {
	var all []segment
	put := func(g segment) {
		if n := len(all); n > 0 && len(g.rules) == 0 && len(all[n-1].rules) == 0 && all[n-1].action == g.action {
			return
		}
		all = append(all, g)
	}
	for n := range last + 1 {
		if g := calls[n]; g != nil {
			put(*g)
		} else {
			put(segment{start: n, action: fallback})
		}
	}
	if fallback&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_ERRNO && len(calls) > 0 {
		put(segment{start: last + 1, action: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	} else {
		put(segment{start: last + 1, action: fallback})
	}
	return all
}

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		data = uint32(*errno) & unix.SECCOMP_RET_DATA
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	}
	return 0, errs.New(errs.Invalid, "action %q is not supported", a)
}

// bpf is one instruction of classic BPF. While it is being put together jt and jf may be toMatch or toFail.
type bpf struct {
	code   uint16
	jt, jf int
	k      uint32
}

const (
	bpfLoad = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfAnd  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	bpfJeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfJgt  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	bpfJge  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	bpfJump = unix.BPF_JMP | unix.BPF_JA
	toMatch = -1
	toFail  = -2
)

func ret(value uint32) bpf { return bpf{code: unix.BPF_RET | unix.BPF_K, k: value} }

// section runs body for one architecture and goes on behind it for the others. The architecture is in the accumulator then.
func section(arch uint32, body []bpf) []bpf {
	body = append([]bpf{{code: bpfLoad, k: 0}}, body...) // seccomp_data.nr
	return append([]bpf{{code: bpfJeq, k: arch, jt: 1}, {code: bpfJump, k: uint32(len(body))}}, body...)
}

// search finds the segment of the number in the accumulator by halving. The kernel's cache of always allowed calls understands
// this form.
func search(segments []segment) []bpf {
	if len(segments) == 1 {
		return segments[0].code()
	}
	mid := len(segments) / 2
	low, high := search(segments[:mid]), search(segments[mid:])
	code := []bpf{{code: bpfJge, k: segments[mid].start, jf: 1}, {code: bpfJump, k: uint32(len(low))}}
	return append(append(code, low...), high...)
}

func (g segment) code() []bpf {
	var code []bpf
	for _, r := range g.rules {
		code = append(code, r.code()...)
	}
	return append(code, ret(g.action))
}

// code returns the rule's action if all its conditions hold, and else goes on behind.
func (r rule) code() []bpf {
	var code []bpf
	for _, a := range r.args {
		c := condition(a)
		for i := range c {
			for _, j := range []*int{&c[i].jt, &c[i].jf} {
				if *j == toMatch {
					*j = len(c) - i - 1
				}
			}
		}
		code = append(code, c...)
	}
	code = append(code, ret(r.action))
	for i := range code {
		for _, j := range []*int{&code[i].jt, &code[i].jf} {
			if *j == toFail {
				*j = len(code) - i - 1
			}
		}
	}
	return code
}

var operators = [...]specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
	specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}

// condition compares a 64-bit argument in two halves, the high one first. It ends at its end if it holds.
func condition(a specs.LinuxSeccompArg) []bpf {
	at := uint32(16 + 8*a.Index) // seccomp_data.args, little endian
	low, high := bpf{code: bpfLoad, k: at}, bpf{code: bpfLoad, k: at + 4}
	vl, vh := uint32(a.Value), uint32(a.Value>>32)
	switch a.Op {
	case specs.OpEqualTo:
		return []bpf{high, {code: bpfJeq, k: vh, jf: toFail}, low, {code: bpfJeq, k: vl, jf: toFail}}
	case specs.OpNotEqual:
		return []bpf{high, {code: bpfJeq, k: vh, jf: toMatch}, low, {code: bpfJeq, k: vl, jt: toFail}}
	case specs.OpGreaterThan, specs.OpGreaterEqual:
		last := bpf{code: bpfJgt, k: vl, jf: toFail}
		if a.Op == specs.OpGreaterEqual {
			last.code = bpfJge
		}
		return []bpf{high, {code: bpfJgt, k: vh, jt: toMatch}, {code: bpfJeq, k: vh, jf: toFail}, low, last}
	case specs.OpLessThan, specs.OpLessEqual:
		last := bpf{code: bpfJge, k: vl, jt: toFail}
		if a.Op == specs.OpLessEqual {
			last.code = bpfJgt
		}
		return []bpf{high, {code: bpfJgt, k: vh, jt: toFail}, {code: bpfJeq, k: vh, jf: toMatch}, low, last}
	}
	// OpMaskedEqual: value is the mask, valueTwo what must remain.
	wl, wh := uint32(a.ValueTwo), uint32(a.ValueTwo>>32)
	return []bpf{high, {code: bpfAnd, k: vh}, {code: bpfJeq, k: wh, jf: toFail}, low, {code: bpfAnd, k: vl}, {code: bpfJeq, k: wl, jf: toFail}}
}
