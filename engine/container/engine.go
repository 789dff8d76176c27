// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/engine/volume"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/onlyone"
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
type Engine struct {
	cfg       Config
	log       *slog.Logger
	lock      *os.File
	layout    cgroup.Layout
	bounding  []string // capabilities that containers can have at most
	abilities Abilities
	profiles  *seccompProfiles
	events    *eventRing
	tails     *tails
	tasks     *tasks
	closing   <-chan struct{} // closed by Close

	// background runs work that belongs to no request; its context ends with Close, which waits for it.
	background func(func(context.Context))
	stop       func()

	groups sync.Mutex // held while cgroups of sandboxes and their parents come and go

	mu         sync.RWMutex // guards the fields below
	closed     bool
	containers map[string]*entry
	names      map[string]string // name -> ID; also of containers that are being made
	sandboxes  map[string]*sandbox
	execs      map[string]*execution
}

// Open recovers: it reads every container's folder, finds the monitors that live, takes over exit codes of those that
// ended meanwhile, and removes what a crash left half made.
func Open(cfg Config) (*Engine, error) {
	if cfg.Name == "" {
		cfg.Name = "knarr"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		cfg: cfg, log: cfg.Log, profiles: newSeccompProfiles(), events: newEventRing(), tails: newTails(), tasks: newTasks(),
		containers: map[string]*entry{}, names: map[string]string{},
		sandboxes: map[string]*sandbox{}, execs: map[string]*execution{},
	}
	ctx, cancel := context.WithCancel(context.Background()) //house:allow context.Background: watching containers is nobody's request; it ends with Close
	var running sync.WaitGroup
	e.closing = ctx.Done()
	e.background = func(work func(context.Context)) { running.Go(func() { work(ctx) }) }
	e.stop = func() { cancel(); running.Wait() }
	if err := e.open(ctx); err != nil {
		e.stop()
		return nil, fmt.Errorf("open the container engine in %s: %w", cfg.Dir, err)
	}
	return e, nil
}

func (e *Engine) open(ctx context.Context) (err error) {
	for _, dir := range []string{e.cfg.Dir, e.cfg.RunDir} {
		for _, sub := range []string{"containers", "sandboxes"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(e.trash(), 0o700); err != nil {
		return err
	}
	if e.lock, err = onlyone.Take(filepath.Join(e.cfg.Dir, "lock")); errors.Is(err, onlyone.ErrTaken) {
		return errs.New(errs.Conflict, "another daemon uses %s: stop it, or choose another data folder", e.cfg.Dir)
	} else if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			e.lock.Close()
		}
	}()
	if e.layout, err = cgroup.Detect(); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	if e.bounding, err = parseBounding(string(status)); err != nil {
		return err
	}
	e.abilities = abilitiesOf(e.layout)
	if err := e.ensureNetworks(ctx); err != nil {
		return err
	}
	e.burnTrash()
	return e.recover(ctx)
}

// swapLimit says whether memory plus swap can be limited here.
func swapLimit(l cgroup.Layout) bool {
	if root := l.V1["memory"]; root != "" {
		return exists(filepath.Join(root, "memory.memsw.limit_in_bytes"))
	}
	return l.Mode == cgroup.V2 // every kernel that we run on accounts swap on v2
}

// Run starts what restart policies ask for, then applies them and auto-removal until ctx ends; the containers go on
// without it. Until Run is called exits are recorded, but no policy acts.
func (e *Engine) Run(ctx context.Context) error {
	var g errgroup.Group
	for {
		for _, t := range e.tasks.take() {
			g.Go(func() error { e.perform(ctx, t); return nil })
		}
		select {
		case <-e.tasks.wake:
		case <-ctx.Done():
			return g.Wait()
		}
	}
}

// Close lets go of monitors and watches. Containers go on.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	all := e.all()
	e.mu.Unlock()
	e.stop()
	for _, c := range all {
		c.mu.Lock()
		client := c.client
		c.mu.Unlock()
		if client != nil {
			client.Close()
		}
	}
	e.tails.close()
	return e.lock.Close()
}

// all lists the entries; mu is held.
func (e *Engine) all() []*entry {
	out := make([]*entry, 0, len(e.containers))
	for _, c := range e.containers {
		out = append(out, c)
	}
	return out
}

// emitPlaces publishes that a run came to its networks and volumes, or left them.
func (e *Engine) emitPlaces(c *entry, come bool, endpoints map[string]Endpoint) {
	net, vol := "disconnect", "unmount"
	if come {
		net, vol = "connect", "mount"
	}
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		attributes := map[string]string{"container": c.id, "name": name}
		if n, err := e.cfg.Networks.Get(name); err == nil {
			attributes["type"] = n.Driver
		}
		e.Publish(Event{Type: "network", Action: net, ID: endpoints[name].NetworkID, Attributes: attributes})
	}
	for _, m := range c.record().Mounts {
		if m.Type != "volume" {
			continue
		}
		attributes := map[string]string{"container": c.id, "driver": "local"}
		if come {
			attributes["destination"], attributes["propagation"], attributes["read/write"] = m.Target, m.Propagation, strconv.FormatBool(!m.ReadOnly)
		}
		e.Publish(Event{Type: "volume", Action: vol, ID: m.Name, Attributes: attributes})
	}
}

// Note publishes that something was asked of a container that the engine itself does not tell: "attach", "top", "export".
func (e *Engine) Note(ref, action string, attributes map[string]string) {
	if c, err := e.find(ref); err == nil {
		e.emit(c, action, attributes)
	}
}

// emit publishes an event of a container.
func (e *Engine) emit(c *entry, action string, more map[string]string) {
	r := c.record()
	attributes := map[string]string{"name": r.Spec.Name, "image": r.Spec.Image}
	for k, v := range r.Config.Labels {
		attributes[k] = v
	}
	for k, v := range more {
		attributes[k] = v
	}
	e.Publish(Event{Type: "container", Action: action, ID: c.id, Attributes: attributes})
}
