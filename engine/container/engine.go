// SPDX-License-Identifier: Apache-2.0

// Package container is a container's life: create, start, stop, exec, attach, logs, events, removal, and the sandboxes
// that pods share.
//
// It owns the containers' folders on disk and joins the parts below it: image (root file systems), network, volume, oci
// and shim (processes). It knows nothing of Docker's wire format, CRI or Kubernetes.
package container

import (
	"context"
	"log/slog"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/engine/volume"
	"github.com/knarr/knarr/internal/errs"
)

// Config says where an instance keeps its containers and what it joins.
type Config struct {
	Name       string // the instance, default knarr: names its cgroup
	Dir        string // durable: one folder per container and sandbox
	RunDir     string // emptied by a reboot: monitors, mounts, pinned namespaces
	ShimBinary string // path of knarr-shim
	Images     *image.Store
	Networks   *network.Networks
	Volumes    *volume.Volumes
	DNS        []string     // name servers for containers that name none; nil: the host's, without loopback ones
	Log        *slog.Logger // nil: none
}

// Engine is every container and sandbox of one instance. Its methods may be called concurrently. Where a method takes a ref,
// it is a container's name, ID, or unique prefix of the ID; an unknown one is errs.NotFound.
type Engine struct{ cfg Config }

var errSoon = errs.New(errs.Unsupported, "the container engine is being built")

// Open recovers: it reads every container's folder, finds the monitors that live, takes over exit codes of those that
// ended meanwhile, and removes what a crash left half made.
func Open(cfg Config) (*Engine, error) { return nil, errSoon }

// Run watches exits and applies restart policies and auto-removal until ctx ends; the containers go on without it. Until
// Run is called exits are recorded, but no policy acts.
func (e *Engine) Run(ctx context.Context) error { return errSoon }

// Close lets go of monitors and watches. Containers go on.
func (e *Engine) Close() error { return nil }

// StopAll stops and removes every container and sandbox of the instance with all that was made for them.
func (e *Engine) StopAll(ctx context.Context) error { return errSoon }

// Problem is one broken invariant that Check found.
type Problem struct{ Kind, Object, Detail string }

// Check compares what the engine knows with mounts, cgroups, namespaces and folders that are there. It changes nothing.
func (e *Engine) Check(ctx context.Context) []Problem { return nil }
