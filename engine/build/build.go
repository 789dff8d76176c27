// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

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
	Key         string   // unique for this step, usable as a container ID; also the snapshot's key
	Rootfs      string   // host path of the mounted root file system, writable
	Args        []string // never empty
	Env         []string // "K=V", complete
	Dir         string   // absolute working directory, exists in the rootfs
	User        string   // "user[:group]" as the image says it, "" for root
	Hostname    string
	NetworkMode string // "default", "none" or "host"
	Mounts      []StepMount
	ExtraHosts  []string // "host:ip"
	ShmSize     int64    // bytes; 0: 64 MiB
	Limits      Limits
	Stdin       io.Reader // nil: /dev/null
	Stdout      io.Writer
	Stderr      io.Writer
}

// Limits bound what a RUN may use; zero is no limit.
type Limits struct {
	CPUShares, CPUPeriod   int64 // periods in µs
	CPUQuota               int64 // µs
	CpusetCpus, CpusetMems string
	Memory, MemorySwap     int64 // bytes; MemorySwap -1 = unlimited
	Ulimits                []specs.POSIXRlimit
}

// Config of a Builder.
type Config struct {
	Dir    string // for the cache and mount points; made if missing
	Images *image.Store
	Run    Runner       // nil: RUN instructions are refused
	Log    *slog.Logger // nil: slog.Default

	CacheBytes int64 // what the folders of cache mounts may take; 0: no bound
}

// Builder builds images. It may run several builds at once.
type Builder struct {
	cfg    Config
	caches *cacheUsers // of the folders of cache mounts
}

// New checks nothing on disk and starts nothing.
func New(cfg Config) *Builder {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Builder{cfg: cfg, caches: newCacheUsers()}
}

// Request is one build.
type Request struct {
	Context    io.Reader         // a tar, plain or compressed; or nil
	ContextDir string            // a host folder, used if Context is nil; "" is an empty context
	Remote     string            // a git repository, or the URL of a tar or of a Dockerfile, in place of Context
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
	Progress   io.Writer   // classic builder's text; nil for none
	Watch      func(Event) // what happens, as it happens, one at a time; nil for none

	Secrets    map[string][]byte // for RUN --mount=type=secret, by id
	SSH        map[string]string // sockets of SSH agents on this machine, for RUN --mount=type=ssh, by id
	Allow      []string          // rights that a RUN may ask for: "network.host"
	CacheFrom  []string          // images whose steps count as cached
	ExtraHosts []string          // for RUN: "host:ip"
	ShmSize    int64             // for RUN
	Limits     Limits            // of each RUN
}

// Folders of a Builder.
const (
	cacheDir = "cache"
	workDir  = "work" // contexts and mount points of running builds; emptied by Recover
)

// keyPrefix begins the key of each snapshot a build makes.
const keyPrefix = "build-"

// Recover removes what builds left when the daemon was killed. Call it at start, before Build.
func (b *Builder) Recover() error {
	root := filepath.Join(b.cfg.Dir, workDir)
	mounts, err := filepath.Glob(filepath.Join(root, "*", "mnt-*"))
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := b.cfg.Images.Unmount(m); err != nil {
			return fmt.Errorf("recover builds: %w", err)
		}
	}
	for _, key := range b.cfg.Images.Snapshots() {
		if strings.HasPrefix(key, keyPrefix) {
			if err := b.cfg.Images.RemoveSnapshot(key); err != nil {
				return fmt.Errorf("recover builds: %w", err)
			}
		}
	}
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	return b.sweepCache()
}

// Build runs the request and answers the image. A failed build gives no name; its finished steps stay in the cache.
func (b *Builder) Build(ctx context.Context, r Request) (image.Image, error) {
	for _, t := range r.Tags {
		if _, err := image.ParseName(t); err != nil {
			return image.Image{}, err
		}
	}
	if r.Progress == nil {
		r.Progress = io.Discard
	}
	if r.Dockerfile == "" {
		r.Dockerfile = "Dockerfile"
	}
	if r.Network == "" {
		r.Network = "default"
	}
	for _, d := range []string{cacheDir, workDir, mountsDir} {
		if err := os.MkdirAll(filepath.Join(b.cfg.Dir, d), 0o700); err != nil {
			return image.Image{}, err
		}
	}
	work, err := os.MkdirTemp(filepath.Join(b.cfg.Dir, workDir), "build-")
	if err != nil {
		return image.Image{}, err
	}
	defer b.cfg.Images.Lease()()
	e := &execution{b: b, req: r, work: work, id: strings.ToLower(rand.Text()[:12]), text: newText(r.Progress),
		stages: map[int]*pending{}, bases: map[string]image.Image{}, used: map[string]bool{}}
	defer b.boundMounts()
	defer e.close()
	if e.epoch, err = parseEpoch(r.Args); err != nil {
		return image.Image{}, err
	}
	return e.run(ctx)
}

// hostPlatform is this machine's.
func (e *execution) targetPlatform() string {
	if e.req.Platform != "" {
		return e.req.Platform
	}
	return hostPlatform()
}

func (e *execution) compile() (Graph, error) {
	src := e.req.Source
	if src == nil {
		var err error
		if src, err = e.source.readFile(e.req.Dockerfile, maxDockerfile); err != nil {
			return Graph{}, errs.New(errs.Invalid, "cannot read the Dockerfile %q in the build context: %w", e.req.Dockerfile, err)
		}
	}
	return Compile(src, Args{Build: e.req.Args, Target: e.req.Target, File: e.req.Dockerfile, TargetPlatform: e.targetPlatform(), BuildPlatform: hostPlatform()})
}
