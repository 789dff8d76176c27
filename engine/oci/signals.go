// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// resetSignals undoes what the caller's caller did to signals: what was ignored (nohup, a shell's &) and what was blocked would stay so
// in the program. The Go runtime's own handlers end with exec by themselves.
func resetSignals() {
	const handlerIgnore = 1 // SIG_IGN
	type sigaction struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	for sig := uintptr(1); sig <= 64; sig++ {
		var have, dfl sigaction
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&have)), 8, 0, 0); errno == 0 && have.handler == handlerIgnore {
			_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&dfl)), 0, 8, 0, 0)
		}
	}
	var none uint64
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
}
