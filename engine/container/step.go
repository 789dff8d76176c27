// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/engine/shim"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// StepRunner runs build steps: containers without a record, that live as long as the call. It satisfies build.Runner.
type StepRunner struct{ e *Engine }

// BuildRunner answers the runner for a build.Builder.
func (e *Engine) BuildRunner() StepRunner { return StepRunner{e} }

// Run runs one command in a mounted root file system and returns when nothing of it is left.
func (r StepRunner) Run(ctx context.Context, step build.RunStep) (code int, err error) {
	run := filepath.Join(r.e.cfg.RunDir, "steps", step.Key)
	if err := os.MkdirAll(run, 0o700); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.e.dismantleStep(context.WithoutCancel(ctx), step.Key)) }()
	monitor, err := shim.Launch{Binary: r.e.cfg.ShimBinary, ID: step.Key, Dir: run, Bundle: run, Stdin: step.Stdin != nil}.Begin()
	if err != nil {
		return 0, err
	}
	defer monitor.Cancel()
	at, err := r.e.placeStep(ctx, run, step)
	if err != nil {
		return 0, err
	}
	plan, err := r.e.planStep(step, at)
	if err != nil {
		return 0, err
	}
	policy, err := writeBundle(run, plan)
	if err != nil {
		return 0, err
	}
	monitor.Filter(r.e.profiles.Filter(policy))
	client, err := monitor.Create(ctx)
	if err != nil {
		return exitOfStart(err)
	}
	defer client.Close()
	return runStep(ctx, client, step)
}

// exitOfStart: a command that cannot be executed is the Dockerfile's fault and has a shell's exit code; the rest is ours.
func exitOfStart(err error) (int, error) {
	if s := startError(err); s.Code != 128 {
		return s.Code, err
	}
	return 0, err
}

func runStep(ctx context.Context, client *shim.Client, step build.RunStep) (int, error) {
	streams, err := client.Attach(ctx, shim.AttachOptions{Stdin: step.Stdin != nil, Stdout: step.Stdout != nil, Stderr: step.Stderr != nil, StdinOnce: true})
	if err != nil {
		return 0, err
	}
	if err := client.Start(ctx); err != nil {
		streams.Close()
		return exitOfStart(err)
	}
	// What the command leaves running in the background holds its output open; the command's end ends the step all the same.
	pumpCtx, stop := context.WithCancel(ctx)
	defer stop()
	pumped := make(chan error, 1)
	go func() {
		pumped <- pump(pumpCtx, streams, Streams{Stdin: step.Stdin, Stdout: step.Stdout, Stderr: step.Stderr}, nil)
	}()
	exit, err := client.Wait(ctx)
	if err == nil {
		err = client.Shutdown(ctx) // ends the streams, after what is in them
	}
	if err != nil {
		stop()
		<-pumped
		return 0, err
	}
	return exit.Code, <-pumped
}

func (e *Engine) placeStep(ctx context.Context, run string, step build.RunStep) (place, error) {
	p := place{hostname: step.Hostname}
	if step.NetworkMode == "host" {
		p.namespaces.Net = hostNamespace
	} else {
		p.netns = filepath.Join(run, "netns")
		p.namespaces.Net = p.netns
		if err := e.cfg.Networks.NewNamespace(ctx, p.netns); err != nil {
			return p, err
		}
	}
	n := netFiles{hostname: step.Hostname, hostNet: step.NetworkMode == "host", hosts: step.ExtraHosts}
	if step.NetworkMode != "host" && step.NetworkMode != "none" {
		ep, err := e.cfg.Networks.Attach(ctx, network.Attachment{Network: DefaultNetwork, Sandbox: step.Key, NetnsPath: p.netns})
		if err != nil {
			return p, err
		}
		n.addresses, n.gateway = []netip.Addr{ep.IP}, ep.Gateway
	}
	return p, e.writeFiles(run, &p, n)
}

func (e *Engine) planStep(step build.RunStep, at place) (Plan, error) {
	root, err := inroot.Open(step.Rootfs)
	if err != nil {
		return Plan{}, err
	}
	defer root.Close()
	user, home, err := lookupUser(root, step.User, nil, false)
	if err != nil {
		return Plan{}, err
	}
	var config image.ContainerConfig
	config.Env, config.WorkingDir = step.Env, step.Dir
	spec := Spec{ShmSize: step.ShmSize, Resources: stepResources(step.Limits)}
	return Plan{Spec: spec, Mounts: stepMounts(step.Mounts), Config: config, Args: step.Args, User: user, Home: home, Hostname: at.hostname, Rootfs: step.Rootfs, Files: at.files,
		Namespaces: at.namespaces, Cgroup: "/" + e.cfg.Name + "/" + step.Key, Bounding: e.bounding, SwapLimit: e.abilities.Swap, Seccomp: e.profiles.Profile}, nil
}

func stepResources(l build.Limits) Resources {
	return Resources{CPUShares: uint64(max(0, l.CPUShares)), CPUPeriod: uint64(max(0, l.CPUPeriod)), CPUQuota: l.CPUQuota, CpusetCpus: l.CpusetCpus, CpusetMems: l.CpusetMems,
		Memory: l.Memory, MemorySwap: l.MemorySwap, Ulimits: l.Ulimits}
}

func stepMounts(list []build.StepMount) []MountPoint {
	var out []MountPoint
	for _, m := range list {
		p := MountPoint{Type: "bind", Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
		if m.Source == "" {
			p.Type, p.Options = "tmpfs", []string{"exec", "mode=1777"}
			if m.Size > 0 {
				p.Options = append(p.Options, fmt.Sprintf("size=%d", m.Size))
			}
		}
		out = append(out, p)
	}
	return out
}

// dismantleStep undoes Run, also for a step that a crash of the daemon cut off.
func (e *Engine) dismantleStep(ctx context.Context, key string) error {
	run := filepath.Join(e.cfg.RunDir, "steps", key)
	var all []error
	try := func(what string, err error) {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", what, err))
		}
	}
	try("end the monitor", endMonitorIn(ctx, run))
	try("remove the network namespace", e.cfg.Networks.RemoveNamespace(filepath.Join(run, "netns")))
	try("leave the network", e.cfg.Networks.DetachAll(ctx, key))
	if g, err := e.layout.Open("/" + e.cfg.Name + "/" + key); err == nil && g.Exists() {
		try("end what is left", errors.Join(g.Kill(), g.Delete()))
	}
	if len(all) == 0 {
		try("remove the run folder", os.RemoveAll(run)) // no root file system is mounted in it
	}
	if err := errors.Join(all...); err != nil {
		return errs.New(errs.Unavailable, "clean up after build step %s: %w", key, err)
	}
	return nil
}

// sweepSteps ends build steps that a crash of the daemon left.
func (e *Engine) sweepSteps(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(e.cfg.RunDir, "steps"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, d := range entries {
		if err := e.dismantleStep(ctx, d.Name()); err != nil {
			e.log.Error("clean up", "err", err)
		}
	}
	return err
}
