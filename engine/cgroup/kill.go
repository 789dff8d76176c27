// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Kill sends SIGKILL to every process of the group and of those below; a group that is gone is no error.
func (c *Cgroup) Kill() error {
	if c.layout.Unified != "" {
		err := write(c.unified("cgroup.kill"), "1") // since Linux 5.14; atomic
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err == nil {
			return c.release()
		}
	}
	// Freezing first makes the loop end: nobody forks while it runs. Killed processes die when thawed.
	frozen := c.Freeze() == nil
	for range 8 {
		pids, err := c.Procs()
		if err != nil || len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if frozen {
			break
		}
	}
	if frozen {
		return c.Thaw()
	}
	return c.release()
}

// release lets killed processes die that a v1 freezer holds: unlike v2's, it does not give way to SIGKILL.
func (c *Cgroup) release() error {
	root := c.layout.V1["freezer"]
	if root == "" {
		return nil
	}
	err := eachDir(root+c.path, func(dir string) error { return write(dir+"/freezer.state", "THAWED") })
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Signal sends sig to every process of the group and of those below.
func (c *Cgroup) Signal(sig unix.Signal) error {
	if sig == unix.SIGKILL {
		return c.Kill()
	}
	pids, err := c.Procs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return fmt.Errorf("signal %d: %w", pid, err)
		}
	}
	return nil
}

// Freeze stops every process of the group. The kernel does it a moment later on v2; on v1 it is asked again until it has.
func (c *Cgroup) Freeze() error {
	if root := c.layout.V1["freezer"]; root != "" {
		file := root + c.path + "/freezer.state"
		var state string
		// Reading the state makes the kernel try again for tasks it met in the middle of a fork.
		// A task freezes when it next runs, so on a busy machine they must be given time.
		for try := range 1000 {
			if try > 10 {
				<-time.After(min(time.Duration(try)*20*time.Microsecond, 2*time.Millisecond))
			}
			if err := write(file, "FROZEN"); err != nil {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if state = strings.TrimSpace(string(text)); state == "FROZEN" {
				return nil
			}
		}
		_ = write(file, "THAWED")
		return fmt.Errorf("freeze cgroup %s: it stays %s", c.path, state)
	}
	return write(c.unified("cgroup.freeze"), "1")
}

// Thaw lets the processes go on.
func (c *Cgroup) Thaw() error {
	if root := c.layout.V1["freezer"]; root != "" {
		return write(root+c.path+"/freezer.state", "THAWED")
	}
	return write(c.unified("cgroup.freeze"), "0")
}

// Frozen says whether the group is frozen.
func (c *Cgroup) Frozen() bool {
	file := c.unified("cgroup.freeze")
	want := "1"
	if root := c.layout.V1["freezer"]; root != "" {
		file, want = root+c.path+"/freezer.state", "FROZEN"
	}
	text, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(text)) == want
}

// Delete removes the group and those below it in every hierarchy. Processes that are still dying are waited for a moment;
// living ones are an error. A group that is gone is none.
func (c *Cgroup) Delete() error {
	for _, dir := range c.dirs() {
		if err := removeAll(dir); err != nil {
			return fmt.Errorf("delete cgroup %s: %w", c.path, err)
		}
	}
	return nil
}

// removeAll waits by poll(2) on nothing: a killed process leaves its v1 group at an instant of which nothing tells.
func removeAll(dir string) error {
	err := unix.Rmdir(dir)
	for wait := time.Millisecond; err != nil && wait < time.Second; wait *= 2 {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY):
			err = eachDir(dir, func(d string) error { return unix.Rmdir(d) })
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			_, _ = unix.Poll(nil, int(wait.Milliseconds()))
		default:
			return err
		}
	}
	return err
}
