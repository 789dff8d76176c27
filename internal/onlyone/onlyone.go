// SPDX-License-Identifier: Apache-2.0

// Package onlyone makes sure that one process at a time has a folder: by flock(2) on a file in it, which the kernel frees with
// the process, however that ends.
package onlyone

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is for the children of a killed owner: between fork and exec they hold its files, and its locks, a moment longer.
const patience = 500 * time.Millisecond

// ErrTaken says that another process has the lock.
var ErrTaken = errors.New("another process has it open")

// Take makes the file if it is missing and locks it. Closing the file frees the lock.
func Take(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	end := time.Now().Add(patience)
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			unix.Close(fd)
			return nil, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		if time.Now().After(end) {
			unix.Close(fd)
			return nil, ErrTaken
		}
		_, _ = unix.Poll(nil, 5) // a lock has no descriptor to wait on with a bound
	}
}
