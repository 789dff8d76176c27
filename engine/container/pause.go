// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/shim"
	"github.com/knarr/knarr/internal/errs"
)

// A PID namespace cannot be pinned without a process: it lives as long as its PID 1. Only a sandbox whose containers share
// one therefore has a process of its own, knarr-shim's PID1, which does nothing but reap what its containers orphan.

func (s *sandbox) pause(part string) string { return filepath.Join(s.run, "pause", part) }

func (e *Engine) startPause(ctx context.Context, s *sandbox, rec sandboxRecord) error {
	for _, dir := range []string{"", "rootfs"} {
		if err := os.Mkdir(s.pause(dir), 0o700); err != nil {
			return err
		}
	}
	client, err := e.launchPause(ctx, s, rec)
	if err != nil {
		return fmt.Errorf("start the pause process: %w", err)
	}
	return client.Close()
}

func (e *Engine) launchPause(ctx context.Context, s *sandbox, rec sandboxRecord) (*shim.Client, error) {
	if err := save(s.pause(""), "config.json", pauseSpec(s.pause("rootfs"), e.cfg.ShimBinary, rec.Cgroup+"/pause"), false); err != nil {
		return nil, err
	}
	client, err := shim.Launch{Binary: e.cfg.ShimBinary, ID: s.id + ".pause", Dir: s.pause(""), Bundle: s.pause("")}.Start(ctx)
	if err != nil {
		return nil, err
	}
	return client, client.Start(ctx)
}

// pauseSpec is the least a process can run in: an empty read-only root, no capability, no network.
func pauseSpec(rootfs, binary, group string) *specs.Spec {
	const program = "/pid1"
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: rootfs, Readonly: true},
		Process: &specs.Process{Args: []string{program, "pid1"}, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{}, Env: []string{"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=4MiB"}},
		Mounts: []specs.Mount{bind(program, binary, "bind", "ro", "nosuid", "nodev")},
		Linux: &specs.Linux{CgroupsPath: group, Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace},
			{Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}}},
	}
}

// pausePid asks the monitor, which alone knows that the process still is the one it started.
func (s *sandbox) pausePid(ctx context.Context) (int, error) {
	client, err := shim.Dial(ctx, s.pause(""))
	if err != nil {
		return 0, fmt.Errorf("sandbox %s: the process that holds its PID namespace is gone: %w", s.id, err)
	}
	defer client.Close()
	return client.Pid(), nil
}

func (e *Engine) endPause(ctx context.Context, s *sandbox) error {
	if !exists(s.pause("")) {
		return nil
	}
	if err := endMonitorIn(ctx, s.pause("")); err != nil {
		return err
	}
	return os.RemoveAll(s.pause("")) // nothing of the host is mounted in it
}

// endMonitorIn kills the container that a monitor in dir keeps, if there is one, and lets the monitor go.
func endMonitorIn(ctx context.Context, dir string) error {
	client, err := shim.Dial(ctx, dir)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return endClient(ctx, client)
}

func endClient(ctx context.Context, client *shim.Client) error {
	err := client.Shutdown(ctx)
	if !errors.Is(err, errs.Conflict) {
		return err
	}
	if err := client.SignalAll(ctx, unix.SIGKILL); err != nil && !errors.Is(err, errs.Gone) {
		return err
	}
	if _, err := client.Wait(ctx); err != nil {
		return err
	}
	return client.Shutdown(ctx)
}
