// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unsafe"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// On v2 devices are guarded by a BPF program of type CGROUP_DEVICE (linux/bpf.h). Its context is three 32-bit words:
// access<<16 | type, major, minor; it returns 1 to allow.

// insn is struct bpf_insn.
type insn struct {
	op       uint8
	dst, src uint8
	off      int16
	imm      int32
}

const (
	opLoad32  = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	opMov32K  = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K
	opMov32X  = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X
	opAnd32K  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opRsh32K  = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	opJne     = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	opJneX    = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_X
	opExit    = unix.BPF_JMP | unix.BPF_EXIT
	devBlock  = 1
	devChar   = 2
	accMknod  = 1
	accRead   = 2
	accWrite  = 4
	accessAll = accMknod | accRead | accWrite
)

// deviceProgram compiles rules, of which a later one wins over an earlier, into instructions. What no rule names is
// allowed, as in a fresh v1 group.
func deviceProgram(rules []specs.LinuxDeviceCgroup) ([]insn, error) {
	// r2 type, r3 access, r4 major, r5 minor
	p := []insn{
		{op: opLoad32, dst: 2, src: 1},
		{op: opAnd32K, dst: 2, imm: 0xffff},
		{op: opLoad32, dst: 3, src: 1},
		{op: opRsh32K, dst: 3, imm: 16},
		{op: opLoad32, dst: 4, src: 1, off: 4},
		{op: opLoad32, dst: 5, src: 1, off: 8},
	}
	for i := len(rules) - 1; i >= 0; i-- {
		block, err := ruleProgram(rules[i])
		if err != nil {
			return nil, err
		}
		p = append(p, block...)
		if len(block) == 2 {
			return p, nil // it names everything: the verifier refuses code that nothing reaches
		}
	}
	return append(p, insn{op: opMov32K, dst: 0, imm: 1}, insn{op: opExit}), nil
}

// ruleProgram returns 1 or 0 for what the rule names and falls through for the rest. A deny rule holds for an access
// that asks for any of its rights, an allow rule for one that asks for no other.
func ruleProgram(d specs.LinuxDeviceCgroup) ([]insn, error) {
	var b []insn
	var jumps []int
	jump := func(in insn) {
		jumps = append(jumps, len(b))
		b = append(b, in)
	}
	switch d.Type {
	case "a", "":
	case "b":
		jump(insn{op: opJne, dst: 2, imm: devBlock})
	case "c", "u":
		jump(insn{op: opJne, dst: 2, imm: devChar})
	default:
		return nil, errs.New(errs.Invalid, "linux.resources.devices: type %q is none of a, b, c", d.Type)
	}
	if access := accessBits(d.Access); access != accessAll {
		b = append(b, insn{op: opMov32X, dst: 1, src: 3}, insn{op: opAnd32K, dst: 1, imm: access})
		if d.Allow {
			jump(insn{op: opJneX, dst: 1, src: 3})
		} else {
			b = append(b, insn{op: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, dst: 1})
			jumps = append(jumps, len(b)-1)
		}
	}
	if d.Major != nil && *d.Major >= 0 {
		jump(insn{op: opJne, dst: 4, imm: int32(*d.Major)})
	}
	if d.Minor != nil && *d.Minor >= 0 {
		jump(insn{op: opJne, dst: 5, imm: int32(*d.Minor)})
	}
	verdict := int32(0)
	if d.Allow {
		verdict = 1
	}
	b = append(b, insn{op: opMov32K, dst: 0, imm: verdict}, insn{op: opExit})
	for _, j := range jumps {
		b[j].off = int16(len(b) - j - 1)
	}
	return b, nil
}

func accessBits(access string) int32 {
	if access == "" {
		return accessAll
	}
	var bits int32
	for letter, bit := range map[string]int32{"r": accRead, "w": accWrite, "m": accMknod} {
		if strings.Contains(access, letter) {
			bits |= bit
		}
	}
	return bits
}

// attachDevices loads the program and puts it on the group in place of the one before it, so that no moment is unguarded.
func (c *Cgroup) attachDevices(rules []specs.LinuxDeviceCgroup) error {
	program, err := deviceProgram(rules)
	if err != nil {
		return err
	}
	dir, err := unix.Open(c.unified(""), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("guard devices of cgroup %s: %w", c.path, err)
	}
	defer unix.Close(dir)
	prog, err := loadProgram(program)
	if err != nil {
		return fmt.Errorf("load device program: %w", err)
	}
	defer unix.Close(prog)
	old, err := attachedProgram(dir)
	if err != nil {
		return fmt.Errorf("query device program: %w", err)
	}
	attr := struct{ target, prog, kind, flags, replace uint32 }{uint32(dir), uint32(prog), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI, 0}
	if old >= 0 {
		defer unix.Close(old)
		attr.flags |= unix.BPF_F_REPLACE
		attr.replace = uint32(old)
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach device program: %w", err)
	}
	return nil
}

func loadProgram(p []insn) (int, error) {
	code := make([]byte, 0, 8*len(p))
	for _, in := range p {
		code = append(code, in.op, in.dst|in.src<<4)
		code = binary.NativeEndian.AppendUint16(code, uint16(in.off))
		code = binary.NativeEndian.AppendUint32(code, uint32(in.imm))
	}
	license := []byte("Apache-2.0\x00")
	attr := struct {
		kind, count    uint32
		code, license  unsafe.Pointer
		logLevel, size uint32
		log            unsafe.Pointer
		version, flags uint32
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(p)), code: unsafe.Pointer(&code[0]), license: unsafe.Pointer(&license[0])}
	return bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

// attachedProgram opens the group's own device program; -1 when there is none.
func attachedProgram(dir int) (int, error) {
	var ids [4]uint32
	query := struct {
		target, kind, flags, attach uint32
		ids                         unsafe.Pointer
		count, pad                  uint32
	}{target: uint32(dir), kind: unix.BPF_CGROUP_DEVICE, ids: unsafe.Pointer(&ids[0]), count: uint32(len(ids))}
	if _, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return -1, err
	}
	if query.count == 0 {
		return -1, nil
	}
	attr := struct{ id, next, flags uint32 }{id: ids[0]}
	return bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
