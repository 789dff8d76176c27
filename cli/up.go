// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (e *env) up() *cobra.Command {
	var i instance
	var timeout time.Duration
	var role string
	cmd := &cobra.Command{
		Use:   "up [flags] [-- FLAGS OF knarrd]",
		Short: "Start a one-node cluster, or take over the one that was here",
		Example: "  knarr up\n  knarr up -- --insecure-port 8080\n" +
			"  knarr up --name two --data-dir /var/lib/two --run-dir /run/two -- --listen 127.0.0.1:7443 --cluster-cidr 10.52.0.0/16 --service-cidr 10.53.0.0/16",
	}
	i.addFlags(cmd.Flags())
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait until the node is ready")
	cmd.Flags().StringVar(&role, "role", "server", "what to run: server, agent, engine")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := e.bring(cmd.Context(), i, role, args, timeout); err != nil {
			return err
		}
		if role == "server" {
			e.next(i)
		}
		return nil
	}
	return cmd
}

// bring starts the instance's daemon, unless it runs, and says so.
func (e *env) bring(ctx context.Context, i instance, role string, args []string, timeout time.Duration) error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root: it makes namespaces, cgroups and links; try sudo")
	}
	pid, err := i.pid()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if pid != 0 {
		if e.answers(ctx, i) {
			fmt.Fprintf(e.err, "knarr %s runs already (pid %d)\n", i.name, pid)
			return nil
		}
		fmt.Fprintf(e.err, "  waiting for daemon %d to end\n", pid)
		if err := waitExit(pid, 0, patience); err != nil {
			return err
		}
	}
	start := time.Now()
	if err := e.launch(ctx, i, role, args); err != nil {
		return err
	}
	fmt.Fprintf(e.err, "knarr %s is ready after %.1f s\n", i.name, time.Since(start).Seconds())
	return nil
}

// answers says whether the instance's daemon serves requests; one that was just killed still holds its lock for a moment.
func (e *env) answers(ctx context.Context, i instance) bool {
	at := *e
	at.host = i.socket()
	c, err := at.engine()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = c.Ping(ctx, client.PingOptions{})
	return err == nil
}

// next says what to type now.
func (e *env) next(i instance) {
	docker, kube, own := "", "", ""
	if i.runDir != "/run/knarr" {
		own = " --data-dir " + i.dataDir
	}
	docker, kube = "export DOCKER_HOST="+i.socket(), "export KUBECONFIG="+i.kubeconfig()
	fmt.Fprintf(e.err, "\n  knarr kubectl%s get nodes\n  %s   # then any kubectl works\n  %s   # then the docker client works\n  knarr token%s   # how other machines join\n", own, kube, docker, own)
}

// launch starts the daemon on its own (it outlives this command) and returns when it says that it is ready. What it
// prints goes to its log file; when it ends early, the last lines are shown.
func (e *env) launch(ctx context.Context, i instance, role string, more []string) error {
	binary, err := daemonBinary()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(i.dataDir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(i.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the daemon's log: %w", err)
	}
	defer log.Close()
	dir, err := os.MkdirTemp("", "knarr-up-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return err
	}
	defer notify.Close()

	daemon := exec.Command(binary, append(append([]string{role}, i.args()...), more...)...)
	daemon.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	daemon.Stdout, daemon.Stderr = log, log
	daemon.Dir = "/"
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return fmt.Errorf("start %s: %w", binary, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	told := make(chan string)
	go hear(notify, told)
	for {
		select {
		case line, ok := <-told:
			switch {
			case !ok:
				return errors.New("the daemon's notifications broke off")
			case line == "READY=1":
				return nil
			case strings.HasPrefix(line, "STATUS="):
				fmt.Fprintln(e.err, "  "+strings.TrimPrefix(line, "STATUS="))
			}
		case err := <-ended:
			return fmt.Errorf("knarrd %s ended at once (%w); more is in %s:\n%s", role, err, i.logFile(), lastWords(i.logFile()))
		case <-ctx.Done():
			daemon.Process.Signal(syscall.SIGTERM)
			return fmt.Errorf("knarrd %s is not ready in time and was told to stop; the end of %s:\n%s", role, i.logFile(), lastWords(i.logFile()))
		}
	}
}

// hear hands on the lines of sd_notify datagrams until the socket is closed.
func hear(conn *net.UnixConn, to chan<- string) {
	defer close(to)
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			to <- line
		}
	}
}

// lastWords is why a daemon ended: what it said of itself on its last lines, else the end of its log.
func lastWords(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	said := len(lines)
	for said > 0 && strings.HasPrefix(lines[said-1], "knarrd: ") {
		said--
	}
	if said == len(lines) {
		said = max(0, len(lines)-8)
	}
	return "  " + strings.Join(lines[said:], "\n  ")
}
