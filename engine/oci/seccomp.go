// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
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

func compileSeccomp(s *specs.LinuxSeccomp) (*filter, error) {
	if s == nil {
		return nil, nil
	}
	return nil, errs.New(errs.Unsupported, "linux.seccomp is not supported")
}

// load puts the filter on the calling thread; it can never be taken off.
func (f *filter) load() error {
	prog := unix.SockFprog{Len: uint16(len(f.Code) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&f.Code[0]))}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("load seccomp filter: %w", errno)
	}
	return nil
}
