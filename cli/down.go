// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (e *env) down() *cobra.Command {
	var i instance
	var purge bool
	cmd := &cobra.Command{
		Use: "down", Short: "Stop the daemon and every container of the instance", Args: cobra.NoArgs,
		Long: "Stop the daemon, then stop and remove every container of the instance with its mounts, cgroups, links and rules.\n" +
			"The cluster's state, images and volumes stay for the next knarr up, unless --purge is given.",
	}
	i.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the cluster's state, images and volumes too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := e.mustBe(i, "down"); err != nil {
			return err
		}
		if err := e.stopDaemon(i); err != nil {
			return err
		}
		return e.stopAll(i, purge)
	}
	return cmd
}

func (e *env) stopAllCommand() *cobra.Command {
	var i instance
	cmd := &cobra.Command{
		Use: "stop-all", Short: "Stop and remove every container of the instance", Args: cobra.NoArgs,
		Long: "Stop and remove every container of the instance. A daemon that runs is stopped first, because it would start its pods again.",
	}
	i.addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := e.mustBe(i, "stop-all"); err != nil {
			return err
		}
		if err := e.stopDaemon(i); err != nil {
			return err
		}
		return e.stopAll(i, false)
	}
	return cmd
}

// stopDaemon ends the daemon, if one runs, and returns when it has ended.
func (e *env) stopDaemon(i instance) error {
	pid, err := i.pid()
	if err != nil || pid == 0 {
		return err
	}
	if err := waitExit(pid, unix.SIGTERM, patience); err != nil {
		return fmt.Errorf("%w; look at %s", err, i.logFile())
	}
	return nil
}

// patience is how long a daemon may take to end.
const patience = 30 * time.Second

// waitExit sends a signal, unless that is 0, and returns when the process has ended with all its threads; only then has it
// let go of its files and locks.
func waitExit(pid int, sig unix.Signal, within time.Duration) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch daemon %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if sig != 0 {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stop daemon %d: %w", pid, err)
		}
	}
	for deadline := time.Now().Add(within); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, time.Until(deadline).Milliseconds())))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n > 0:
			return nil
		default:
			return fmt.Errorf("daemon %d has not ended after %s", pid, within)
		}
	}
}

func (e *env) stopAll(i instance, purge bool) error {
	if _, err := os.Stat(i.dataDir); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(e.err, "nothing to stop: %s does not exist\n", i.dataDir)
		return nil
	}
	binary, err := daemonBinary()
	if err != nil {
		return err
	}
	args := append([]string{"stop-all", "--log-level", "warn"}, i.args()...)
	if purge {
		args = append(args, "--purge")
	}
	c := exec.Command(binary, args...)
	c.Stdout, c.Stderr = e.out, e.err
	if err := c.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) { // it has said why
			return exitError{code: exit.ExitCode()}
		}
		return err
	}
	fmt.Fprintf(e.err, "knarr %s is down\n", i.name)
	return nil
}
