// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ensureTmpfs makes dir and mounts a tmpfs of at most size bytes on it, unless there is one already. Its pages are not
// swapped out where the kernel offers that (6.4): secrets live here.
func ensureTmpfs(dir string, size int64, mode os.FileMode) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		return err
	}
	options := fmt.Sprintf("size=%d,mode=%o", size, mode)
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	err := unix.Mount("tmpfs", dir, "tmpfs", flags, options+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", flags, options)
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// secretSize bounds the tmpfs of a secret, token or downwardAPI volume: sources are at most 1 MiB each.
const secretSize = 64 << 20
