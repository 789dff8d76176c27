// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// sandbox is one sandbox in memory. op is held while it is made or removed; rec is replaced under Engine.mu.
type sandbox struct {
	id, dir, run string
	op           sync.Mutex
	rec          sandboxRecord
}

// sandboxRecord is sandbox.json. It is written before anything is made and again when all is there.
type sandboxRecord struct {
	Version  int         `json:"version"`
	Spec     SandboxSpec `json:"spec"`
	Created  time.Time   `json:"created"`
	Cgroup   string      `json:"cgroup"`
	Endpoint *Endpoint   `json:"endpoint,omitempty"`
	Complete bool        `json:"complete,omitempty"`
	Removing bool        `json:"removing,omitempty"`
	Stopped  bool        `json:"stopped,omitempty"`
}

func (e *Engine) newSandbox(id string) *sandbox {
	return &sandbox{id: id, dir: filepath.Join(e.cfg.Dir, "sandboxes", id), run: filepath.Join(e.cfg.RunDir, "sandboxes", id)}
}

func (s *sandbox) ns(kind string) string { return filepath.Join(s.run, kind) }
func (s *sandbox) shm() string           { return filepath.Join(s.run, "shm") }

// ready says whether everything is there that a container joins.
func (s *sandbox) ready(rec sandboxRecord) bool {
	if !rec.Complete || rec.Removing || rec.Stopped {
		return false
	}
	for _, kind := range ownNamespaces(rec.Spec) {
		if !isNamespace(s.ns(kind)) {
			return false
		}
	}
	return !rec.Spec.SharePID || exists(s.pause(""))
}

// ownNamespaces are the pinned ones.
func ownNamespaces(spec SandboxSpec) []string {
	var out []string
	if !spec.HostNetwork {
		out = append(out, "net", "uts")
	}
	if !spec.HostIPC {
		out = append(out, "ipc")
	}
	return out
}

func (s *sandbox) view(rec sandboxRecord) Sandbox {
	v := Sandbox{Spec: rec.Spec, Created: rec.Created, Cgroup: rec.Cgroup, Ready: s.ready(rec)}
	if rec.Endpoint != nil {
		v.IP = rec.Endpoint.IP
	}
	if !rec.Spec.HostNetwork {
		v.NetnsPath = s.ns("net")
	}
	return v
}

// CreateSandbox makes a sandbox. One of that ID that is ready is returned as it is; one that lost its namespaces (a reboot)
// is made anew, with another address if need be.
func (e *Engine) CreateSandbox(ctx context.Context, spec SandboxSpec) (Sandbox, error) {
	if err := validateSandbox(spec); err != nil {
		return Sandbox{}, err
	}
	s, err := e.admitSandbox(spec)
	if err != nil {
		return Sandbox{}, err
	}
	s.op.Lock()
	defer s.op.Unlock()
	if !e.listed(s) { // removed, or given up, while we waited
		return Sandbox{}, errs.New(errs.Unavailable, "sandbox %s was being removed; try again", s.id)
	}
	if rec := e.sandboxRecord(s); s.ready(rec) {
		return s.view(rec), nil
	}
	if exists(s.run) {
		if err := e.dismantleSandbox(ctx, s); err != nil {
			return Sandbox{}, fmt.Errorf("clear what was left of sandbox %s: %w", s.id, err)
		}
	}
	rec := sandboxRecord{Version: formatVersion, Spec: spec, Created: time.Now(), Cgroup: e.sandboxCgroup(spec)}
	if err := e.makeSandbox(ctx, s, &rec); err != nil {
		undo := e.dismantleSandbox(context.WithoutCancel(ctx), s)
		if undo == nil {
			undo = os.RemoveAll(s.dir)
		}
		e.mu.Lock()
		delete(e.sandboxes, s.id)
		e.mu.Unlock()
		return Sandbox{}, errors.Join(fmt.Errorf("create sandbox %s: %w", s.id, err), undo)
	}
	return s.view(rec), nil
}

func (e *Engine) admitSandbox(spec SandboxSpec) (*sandbox, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errs.New(errs.Unavailable, "the engine is closing")
	}
	s := e.sandboxes[spec.ID]
	if s == nil {
		s = e.newSandbox(spec.ID)
		s.rec.Spec = spec
		e.sandboxes[spec.ID] = s
	}
	return s, nil
}

func (e *Engine) listed(s *sandbox) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.sandboxes[s.id] == s
}

func (e *Engine) sandboxRecord(s *sandbox) sandboxRecord {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return s.rec
}

func (e *Engine) saveSandbox(s *sandbox, rec sandboxRecord) error {
	e.mu.Lock()
	s.rec = rec
	e.mu.Unlock()
	return save(s.dir, sandboxFile, rec, false) // a reboot takes the namespaces, and with them what the file says
}

// sandboxCgroup: the parent that a pod names is the pod's own; without one the sandbox gets a group of its own.
func (e *Engine) sandboxCgroup(spec SandboxSpec) string {
	if spec.CgroupOutside != "" {
		return path.Join(spec.CgroupOutside, e.cfg.Name+"-"+spec.ID)
	}
	return below("/"+e.cfg.Name, cmp.Or(spec.CgroupParent, "sandbox-"+spec.ID))
}

func validateSandbox(s SandboxSpec) error {
	var f faults
	if s.ID == "" || len(s.ID) > 100 || strings.Trim(s.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || s.ID[0] == '-' {
		f.add("invalid sandbox ID %q: use 1 to 100 of a-z, 0-9 and -", s.ID)
	}
	if len(s.Hostname) > 64 || strings.ContainsAny(s.Hostname, " \t\r\n\x00/") {
		f.add("invalid hostname %q", s.Hostname)
	}
	f.resources(s.Resources)
	if p := s.CgroupOutside; p != "" && (!path.IsAbs(p) || path.Clean(p) != p || s.CgroupParent != "") {
		f.add("invalid parent group %q of the sandbox: it must be absolute and clean, and the only one", p)
	}
	as := Spec{Network: NetworkSpec{Ports: s.Ports, DNS: s.DNS, DNSSearch: s.DNSSearch, DNSOptions: s.DNSOptions, ExtraHosts: s.ExtraHosts}}
	f.network(as)
	if s.HostNetwork {
		as.Network.Mode = "host"
	}
	if s.HostIPC {
		as.IpcMode = "host"
	}
	for k, v := range s.Sysctls {
		f.err(checkSysctl(k, v, as))
	}
	return errors.Join(f.list...)
}

// makeSandbox makes all parts in order; whatever was made when one fails is undone by dismantleSandbox.
func (e *Engine) makeSandbox(ctx context.Context, s *sandbox, rec *sandboxRecord) error {
	for _, dir := range []string{s.dir, s.run} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := e.saveSandbox(s, *rec); err != nil {
		return err
	}
	if err := e.makeGroup(rec.Cgroup, rec.Spec.Resources); err != nil {
		return err
	}
	hostname := rec.Spec.Hostname
	if rec.Spec.HostNetwork {
		hostname, _ = os.Hostname()
	} else {
		if err := e.cfg.Networks.NewNamespace(ctx, s.ns("net")); err != nil {
			return err
		}
	}
	if err := pinNamespaces(s, rec.Spec, hostname); err != nil {
		return err
	}
	if !rec.Spec.HostIPC {
		if err := mountShm(s.shm(), 0); err != nil {
			return err
		}
	}
	if err := e.attachSandbox(ctx, s, rec); err != nil {
		return err
	}
	if err := e.sandboxFiles(s, *rec, hostname); err != nil {
		return err
	}
	if rec.Spec.SharePID {
		if err := e.startPause(ctx, s, *rec); err != nil {
			return err
		}
	}
	rec.Complete = true
	return e.saveSandbox(s, *rec)
}

func (e *Engine) attachSandbox(ctx context.Context, s *sandbox, rec *sandboxRecord) error {
	if rec.Spec.HostNetwork {
		return nil
	}
	a := network.Attachment{Network: cmp.Or(rec.Spec.Network, DefaultNetwork), Sandbox: s.id, NetnsPath: s.ns("net")}
	for _, p := range rec.Spec.Ports {
		a.Ports = append(a.Ports, network.Port{HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: cmp.Or(p.Protocol, "tcp")})
	}
	ep, err := e.cfg.Networks.Attach(ctx, a)
	if err != nil {
		return err
	}
	v := endpointView(ep)
	rec.Endpoint = &v
	return nil
}

func (e *Engine) sandboxFiles(s *sandbox, rec sandboxRecord, hostname string) error {
	n := netFiles{hostname: hostname, hosts: rec.Spec.ExtraHosts, hostNet: rec.Spec.HostNetwork,
		dns: resolvers{servers: rec.Spec.DNS, search: rec.Spec.DNSSearch, options: rec.Spec.DNSOptions}}
	if rec.Endpoint != nil {
		n.addresses, n.gateway = []netip.Addr{rec.Endpoint.IP}, rec.Endpoint.Gateway
	}
	return e.writeFiles(s.dir, &place{}, n)
}

// makeGroup makes a cgroup and puts limits on it.
func (e *Engine) makeGroup(path string, r Resources) error {
	e.groups.Lock()
	defer e.groups.Unlock()
	g, err := e.layout.Create(path)
	if err != nil {
		return err
	}
	return g.Apply(linuxResources(r, e.abilities.Swap))
}

// removeGroup removes a sandbox's group and, when they are ours, of the groups above it, up to the instance's, those that are
// empty now.
func (e *Engine) removeGroup(group string, ours bool) error {
	e.groups.Lock()
	defer e.groups.Unlock()
	g, err := e.layout.Open(group)
	if err != nil {
		return err
	}
	if err := g.Kill(); err != nil {
		return err
	}
	if err := g.Delete(); err != nil {
		return err
	}
	for p := path.Dir(group); ours && p != "/"+e.cfg.Name && p != "/"; p = path.Dir(p) {
		for _, root := range e.groupRoots() {
			_ = os.Remove(root + p) // fails while anything is in it, and only then
		}
	}
	return nil
}

// groupRoots are the mount points of the hierarchies that containers join.
func (e *Engine) groupRoots() []string {
	var roots []string
	for _, r := range e.layout.V1 {
		if !slices.Contains(roots, r) {
			roots = append(roots, r)
		}
	}
	if e.layout.Unified != "" {
		roots = append(roots, e.layout.Unified)
	}
	return roots
}

// joinSandbox is connect for a container of a sandbox.
func (e *Engine) joinSandbox(ctx context.Context, rec record) (place, error) {
	e.mu.RLock()
	s := e.sandboxes[rec.Spec.Sandbox]
	e.mu.RUnlock()
	if s == nil {
		return place{}, errs.New(errs.NotFound, "No such sandbox: %s", rec.Spec.Sandbox)
	}
	sr := e.sandboxRecord(s)
	if !s.ready(sr) {
		return place{}, errs.New(errs.Conflict, "sandbox %s has lost its namespaces and must be made anew", s.id)
	}
	p := place{namespaces: Namespaces{Net: s.ns("net"), UTS: s.ns("uts"), IPC: s.ns("ipc")}, netns: s.ns("net"), hostname: sr.Spec.Hostname, shm: s.shm()}
	if sr.Spec.HostNetwork {
		p.namespaces.Net, p.namespaces.UTS, p.netns = hostNamespace, hostNamespace, ""
		p.hostname, _ = os.Hostname()
	}
	if sr.Spec.HostIPC {
		p.namespaces.IPC, p.shm = hostNamespace, "/dev/shm"
	}
	switch {
	case sr.Spec.HostPID:
		p.namespaces.PID = hostNamespace
	case sr.Spec.SharePID:
		pid, err := s.pausePid(ctx)
		if err != nil {
			return place{}, err
		}
		p.namespaces.PID = nsPath(pid, "pid")
	}
	if rec.Spec.PidMode != "" {
		if err := e.joinPid(rec.Spec.PidMode, &p); err != nil {
			return place{}, err
		}
	}
	p.files = map[string]string{}
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		p.files["/etc/"+name] = filepath.Join(s.dir, name)
	}
	return p, nil
}

// RemoveSandbox releases a sandbox's address, ports, namespaces and cgroup. Containers that still run in it are killed;
// they stay listed, exited, until they are removed themselves. Missing is no error.
func (e *Engine) RemoveSandbox(ctx context.Context, id string) error {
	e.mu.RLock()
	s := e.sandboxes[id]
	all := e.all()
	e.mu.RUnlock()
	if s == nil {
		return nil
	}
	s.op.Lock()
	defer s.op.Unlock()
	if !e.listed(s) {
		return nil
	}
	rec := e.sandboxRecord(s)
	rec.Removing = true // from now on nothing starts in it
	if err := e.saveSandbox(s, rec); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := e.endMembers(ctx, id, all); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	if err := e.dismantleSandbox(ctx, s); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	if err := e.discard(s.dir); err != nil {
		return err
	}
	e.mu.Lock()
	if e.sandboxes[id] == s {
		delete(e.sandboxes, id)
	}
	e.mu.Unlock()
	return nil
}

// StopSandbox kills what runs in a sandbox and releases its address, ports, namespaces and cgroup. It stays listed, not ready,
// with its containers. One that is stopped already is no error.
func (e *Engine) StopSandbox(ctx context.Context, id string) error {
	e.mu.RLock()
	s := e.sandboxes[id]
	all := e.all()
	e.mu.RUnlock()
	if s == nil {
		return errs.New(errs.NotFound, "No such sandbox: %s", id)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if !e.listed(s) {
		return errs.New(errs.NotFound, "No such sandbox: %s", id)
	}
	rec := e.sandboxRecord(s)
	rec.Stopped = true // from now on nothing starts in it
	if err := e.saveSandbox(s, rec); err != nil {
		return err
	}
	if err := e.endMembers(ctx, id, all); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	if err := e.dismantleSandbox(ctx, s); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	return nil
}

// UpdateSandbox changes the limits on all that a sandbox holds; zero fields stay.
func (e *Engine) UpdateSandbox(_ context.Context, id string, r Resources) error {
	e.mu.RLock()
	s := e.sandboxes[id]
	e.mu.RUnlock()
	if s == nil {
		return errs.New(errs.NotFound, "No such sandbox: %s", id)
	}
	s.op.Lock()
	defer s.op.Unlock()
	rec := e.sandboxRecord(s)
	if !s.ready(rec) {
		return errs.New(errs.Conflict, "sandbox %s is not ready", id)
	}
	over, _, err := fit(r, e.abilities, true)
	if err != nil {
		return err
	}
	rec.Spec.Resources = overlay(rec.Spec.Resources, over)
	g, err := e.layout.Open(rec.Cgroup)
	if err != nil {
		return err
	}
	if err := g.Apply(linuxResources(rec.Spec.Resources, e.abilities.Swap)); err != nil {
		return errs.New(errs.Conflict, "limits of sandbox %s: %w", id, err)
	}
	return e.saveSandbox(s, rec)
}

// endMembers kills the containers of a sandbox, all at once.
func (e *Engine) endMembers(ctx context.Context, id string, all []*entry) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for _, c := range all {
		if c.record().Spec.Sandbox != id {
			continue
		}
		wg.Go(func() {
			c.op.Lock()
			defer c.op.Unlock()
			c.callOff()
			if err := e.destroyRun(ctx, c); err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// dismantleSandbox undoes makeSandbox. All steps are idempotent and all are tried.
func (e *Engine) dismantleSandbox(ctx context.Context, s *sandbox) error {
	var all []error
	try := func(what string, err error) {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", what, err))
		}
	}
	rec := e.sandboxRecord(s)
	try("end the pause process", e.endPause(ctx, s))
	if !rec.Spec.HostNetwork {
		try("remove the network namespace", e.cfg.Networks.RemoveNamespace(s.ns("net"))) // first: see entry's dismantle
		try("leave the network", e.cfg.Networks.DetachAll(ctx, s.id))
	}
	for _, pin := range []string{s.ns("uts"), s.ns("ipc"), s.shm()} {
		try("unmount "+pin, unmount(pin))
	}
	if rec.Cgroup != "" {
		try("remove the cgroup", e.removeGroup(rec.Cgroup, rec.Spec.CgroupOutside == ""))
	}
	for _, path := range []string{s.ns("uts"), s.ns("ipc"), s.ns("net"), s.shm(), s.run} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// Sandbox finds one sandbox by its ID.
func (e *Engine) Sandbox(id string) (Sandbox, error) {
	e.mu.RLock()
	s := e.sandboxes[id]
	e.mu.RUnlock()
	if s == nil {
		return Sandbox{}, errs.New(errs.NotFound, "No such sandbox: %s", id)
	}
	return s.view(e.sandboxRecord(s)), nil
}

// Sandboxes lists all, oldest first.
func (e *Engine) Sandboxes() []Sandbox {
	e.mu.RLock()
	list := make([]*sandbox, 0, len(e.sandboxes))
	for _, s := range e.sandboxes {
		list = append(list, s)
	}
	e.mu.RUnlock()
	var out []Sandbox
	for _, s := range list {
		if rec := e.sandboxRecord(s); !rec.Created.IsZero() {
			out = append(out, s.view(rec))
		}
	}
	slices.SortFunc(out, func(a, b Sandbox) int { return a.Created.Compare(b.Created) })
	return out
}

// recoverSandboxes reads all sandboxes and finishes interrupted removals. Half-made ones are listed, not ready, for their
// maker to try again or to remove.
func (e *Engine) recoverSandboxes(ctx context.Context) error {
	base := filepath.Join(e.cfg.Dir, "sandboxes")
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, d := range entries {
		s := e.newSandbox(d.Name())
		if err := atomicfile.Sweep(s.dir); err != nil {
			return err
		}
		s.rec, err = load(s.dir, sandboxFile, func(r *sandboxRecord) int { return r.Version })
		if err == nil && !s.rec.Removing {
			e.sandboxes[s.id] = s
			continue
		}
		if err := e.dismantleSandbox(ctx, s); err != nil {
			e.log.Error("clean up a sandbox", "sandbox", s.id, "err", err)
			continue
		}
		if err := e.discard(s.dir); err != nil {
			return err
		}
	}
	return e.sweepSandboxes(ctx)
}

func (e *Engine) sweepSandboxes(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(e.cfg.RunDir, "sandboxes"))
	if err != nil {
		return err
	}
	for _, d := range entries {
		if e.sandboxes[d.Name()] == nil {
			if err := e.dismantleSandbox(ctx, e.newSandbox(d.Name())); err != nil {
				e.log.Error("clean up a leftover sandbox", "sandbox", d.Name(), "err", err)
			}
		}
	}
	return nil
}

func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}
