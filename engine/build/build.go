// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"io"
	"log/slog"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// A Runner runs one RUN instruction's command in a root file system that is already mounted, and returns when it has ended
// and nothing of it is left (mounts, processes). The daemon satisfies it with engine/container or engine/oci.
type Runner interface {
	Run(ctx context.Context, step RunStep) (exitCode int, err error)
}

// RunStep is what a Runner gets.
type RunStep struct {
	Key         string   // unique for this step, usable as a container ID
	Rootfs      string   // host path of the mounted root file system, writable
	Args        []string // never empty
	Env         []string // "K=V", complete
	Dir         string   // absolute working directory, exists in the rootfs
	User        string   // "user[:group]" as the image says it, "" for root
	Hostname    string
	NetworkMode string    // "default", "none" or "host"
	Stdin       io.Reader // nil: /dev/null
	Stdout      io.Writer
	Stderr      io.Writer
}

// Config of a Builder.
type Config struct {
	Dir    string // for the cache and mount points; made if missing
	Images *image.Store
	Run    Runner       // nil: RUN instructions are refused
	Log    *slog.Logger // nil: slog.Default
}

// Builder builds images. It may run several builds at once.
type Builder struct{ cfg Config }

// New checks nothing on disk and starts nothing.
func New(cfg Config) *Builder { return &Builder{cfg: cfg} }

// Request is one build.
type Request struct {
	Context    io.Reader         // a tar, plain or compressed; or nil
	ContextDir string            // a host folder, used if Context is nil
	Dockerfile string            // path in the context; "" is "Dockerfile"
	Source     []byte            // the Dockerfile itself, if it is not in the context
	Tags       []string          // names for the result
	Args       map[string]string // build arguments
	Labels     map[string]string
	Target     string // stage name or index; "" is the last
	Platform   string // "" for this machine's
	Network    string // for RUN: "default", "none", "host"; "" is "default"
	NoCache    bool
	Pull       bool // ask the registry for newer base images even if they are here
	PullWith   image.PullOptions
	Progress   io.Writer // classic builder's text; nil for none
}

// Build runs the request and answers the image.
func (b *Builder) Build(ctx context.Context, r Request) (image.Image, error) {
	return image.Image{}, errs.New(errs.Unsupported, "build: being written")
}
