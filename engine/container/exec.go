// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"maps"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/shim"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// maxExecs bounds the ended execs that a container remembers.
const maxExecs = 256

// execution is one further process. A restart of the daemon finds it again by its monitor.
// mu guards the fields below it; entry.mu may be taken while it is held, never the other way round.
type execution struct {
	id   string
	c    *entry
	spec ExecSpec
	made time.Time
	gone atomic.Bool // it has ended

	mu      sync.Mutex
	started bool
	process *shim.ExecProcess // nil before it runs
	pid     int
	over    bool
	exit    Exit
	size    *Size // asked for before it ran
}

// ExecState is a view of an exec. It is kept for a while after its end, and goes with its container's run.
type ExecState struct {
	ID, Container string
	Spec          ExecSpec
	Running       bool
	Started       bool
	Pid           int
	ExitCode      int // once it has started and no longer runs
}

// ExecCreate prepares a further process in a running container and answers its ID.
func (e *Engine) ExecCreate(ref string, s ExecSpec) (string, error) {
	c, err := e.find(ref)
	if err != nil {
		return "", err
	}
	if len(s.Args) == 0 || s.Args[0] == "" {
		return "", errs.New(errs.Invalid, "No exec command specified")
	}
	if err := checkUser(s.User); err != nil {
		return "", err
	}
	x := &execution{id: newID(), c: c, spec: s, made: time.Now()}
	c.mu.Lock()
	err = c.runs()
	if err == nil {
		c.execs[x.id] = x
	}
	c.mu.Unlock()
	if err != nil {
		return "", err
	}
	e.dropOldExec(c)
	e.mu.Lock()
	e.execs[x.id] = x
	e.mu.Unlock()
	e.emit(c, "exec_create: "+strings.Join(s.Args, " "), map[string]string{"execID": x.id})
	return x.id, nil
}

// runs says why no process can be added; mu is held.
func (c *entry) runs() error {
	switch c.st.State {
	case Running:
		return nil
	case Paused:
		return errs.New(errs.Conflict, "container %s is paused, unpause the container before exec", c.id)
	case Restarting:
		return errs.New(errs.Conflict, "Container %s is restarting, wait until the container is running", c.id)
	}
	return errs.New(errs.Conflict, "container %s is not running", c.id)
}

// dropOldExec forgets the oldest ended exec of a container that has many.
func (e *Engine) dropOldExec(c *entry) {
	c.mu.Lock()
	all := maps.Clone(c.execs)
	c.mu.Unlock()
	if len(all) < maxExecs {
		return
	}
	var oldest *execution
	for _, x := range all {
		x.mu.Lock()
		over := x.over || !x.started && time.Since(x.made) > time.Minute
		x.mu.Unlock()
		if over && (oldest == nil || x.made.Before(oldest.made)) {
			oldest = x
		}
	}
	if oldest != nil {
		e.dropExec(oldest)
	}
}

func (e *Engine) forgetExecs(all map[string]*execution) {
	if len(all) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.execs, func(id string, x *execution) bool {
		if all[id] == nil {
			return false
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.over || !x.started // one whose caller still listens forgets itself
	})
}

func (e *Engine) findExec(id string) (*execution, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if x := e.execs[id]; x != nil {
		return x, nil
	}
	return nil, errs.New(errs.NotFound, "No such exec instance: %s", id)
}

// ExecStart runs it, connected with s, until it ends; with detach it returns when the process runs. Errors are Start's.
// s.Resize is followed; ExecResize works too.
func (e *Engine) ExecStart(ctx context.Context, id string, s Streams, detach bool) error {
	x, err := e.findExec(id)
	if err != nil {
		return err
	}
	p, err := e.execStart(ctx, x, detach)
	if err != nil {
		return err
	}
	e.background(func(ctx context.Context) { e.execWait(ctx, x, p) })
	if detach {
		drainExec(p)
		return nil
	}
	if s.Stdin == nil && p.Streams.Stdin != nil {
		p.Streams.Stdin.Close()
	}
	resize := func(size Size) { _ = p.Resize(ctx, size.Cols, size.Rows) }
	if err := pump(ctx, &p.Streams, s, resize); err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return err
}

// drainExec reads what nobody wants, so that the process is not held up by it.
func drainExec(p *shim.ExecProcess) {
	if p.Streams.Stdin != nil {
		p.Streams.Stdin.Close()
	}
	for _, r := range []interface{ Read([]byte) (int, error) }{p.Stdout, p.Stderr} {
		if r == nil {
			continue
		}
		go func() {
			buf := make([]byte, 4096)
			for {
				if _, err := r.Read(buf); err != nil {
					return
				}
			}
		}()
	}
}

// execStart starts the process once.
func (e *Engine) execStart(ctx context.Context, x *execution, detach bool) (*shim.ExecProcess, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.started {
		return nil, errs.New(errs.Conflict, "exec %s has already run", x.id)
	}
	x.c.mu.Lock()
	err := x.c.runs()
	client, rec := x.c.client, x.c.rec
	x.c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	process, err := e.execProcess(x, rec)
	if err != nil {
		return nil, err
	}
	x.started = true
	p, err := client.Exec(ctx, shim.Exec{ID: x.id, Process: *process, Stdin: x.spec.Stdin, Null: detach && !x.spec.Terminal})
	if err != nil {
		fail := startError(err)
		x.over, x.exit = true, Exit{Code: fail.Code, Error: fail.Error()}
		x.gone.Store(true)
		return nil, fail
	}
	x.process, x.pid = p, p.Pid
	if x.size != nil {
		_ = p.Resize(ctx, x.size.Cols, x.size.Rows)
	}
	e.emit(x.c, "exec_start: "+strings.Join(x.spec.Args, " "), map[string]string{"execID": x.id})
	return p, nil
}

// rejoinExecs takes over the execs of a container that a monitor has kept. Their streams went with the last daemon.
func (e *Engine) rejoinExecs(ctx context.Context, c *entry, client *shim.Client) {
	known, err := client.Execs(ctx)
	if err != nil {
		e.log.Debug("execs of a container", "container", c.id, "err", err)
		return
	}
	for _, k := range known {
		p, err := client.Rejoin(k)
		if err != nil {
			e.log.Warn("rejoin an exec", "container", c.id, "exec", k.ID, "err", err)
			continue
		}
		x := &execution{id: k.ID, c: c, spec: ExecSpec{Args: k.Args, Dir: k.Cwd, Terminal: k.Terminal}, made: time.Now(), started: true, process: p, pid: k.Pid}
		c.execs[x.id], e.execs[x.id] = x, x // nobody else has the container yet
		e.background(func(ctx context.Context) { e.execWait(ctx, x, p) })
	}
}

// execWait notes the end.
func (e *Engine) execWait(ctx context.Context, x *execution, p *shim.ExecProcess) {
	exit, err := p.Wait(ctx)
	x.gone.Store(true)
	x.mu.Lock()
	x.over, x.process = true, nil
	x.exit = Exit{Code: exit.Code, Signal: exit.Signal, StartedAt: exit.StartedAt, ExitedAt: exit.ExitedAt}
	if err != nil {
		x.exit = Exit{Code: unknownExit, Error: err.Error()}
	}
	x.mu.Unlock()
	x.c.mu.Lock()
	orphan := x.c.execs[x.id] != x
	x.c.mu.Unlock()
	if orphan {
		e.mu.Lock()
		delete(e.execs, x.id)
		e.mu.Unlock()
	}
	e.emit(x.c, "exec_die", map[string]string{"execID": x.id, "exitCode": strconv.Itoa(x.exitCode())})
}

func (x *execution) exitCode() int { x.mu.Lock(); defer x.mu.Unlock(); return x.exit.Code }

// execProcess is the process as the runtime wants it: the container's, but for what the ExecSpec says.
func (e *Engine) execProcess(x *execution, rec record) (*specs.Process, error) {
	root, err := inroot.Open(x.c.rootfs())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	userSpec := rec.Config.User
	if x.spec.User != "" {
		userSpec = x.spec.User
	}
	user, home, err := lookupUser(root, userSpec, rec.Spec.Groups, rec.Spec.OnlyGroups)
	if err != nil {
		return nil, err
	}
	security := rec.Spec.Security
	security.Privileged = security.Privileged || x.spec.Privileged
	caps, err := capabilities(security, e.bounding)
	if err != nil {
		return nil, err
	}
	cwd := rec.Config.WorkingDir
	if x.spec.Dir != "" {
		cwd = path.Clean("/" + x.spec.Dir)
	}
	hostname := rec.Spec.Hostname
	if rec.Spec.Sandbox == "" && hostname == "" {
		hostname = x.c.short()
	}
	env := mergeEnv(rec.Config.Env, x.spec.Env)
	return &specs.Process{
		Terminal: x.spec.Terminal, User: user, Args: x.spec.Args, Env: processEnv(env, hostname, home, x.spec.Terminal), Cwd: cwd,
		Capabilities: processCapabilities(caps, user), NoNewPrivileges: rec.Spec.Security.NoNewPrivileges,
		Rlimits: rec.Spec.Resources.Ulimits, OOMScoreAdj: rec.Spec.Resources.OOMScoreAdj,
	}, nil
}

// ExecInspect answers an exec's state.
func (e *Engine) ExecInspect(id string) (ExecState, error) {
	x, err := e.findExec(id)
	if err != nil {
		return ExecState{}, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return ExecState{ID: x.id, Container: x.c.id, Spec: x.spec, Started: x.started, Running: x.started && !x.over, Pid: x.pid, ExitCode: x.exit.Code}, nil
}

// ExecResize sets the size of an exec's terminal; before the start it is remembered.
func (e *Engine) ExecResize(ctx context.Context, id string, s Size) error {
	x, err := e.findExec(id)
	if err != nil {
		return err
	}
	x.mu.Lock()
	p := x.process
	if !x.started {
		x.size = &s
	}
	x.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Resize(ctx, s.Cols, s.Rows)
}

// Exec is ExecCreate and ExecStart in one, for callers that need no ID. When ctx ends first the process is killed.
func (e *Engine) Exec(ctx context.Context, ref string, s ExecSpec, streams Streams) (Exit, error) {
	id, err := e.ExecCreate(ref, s)
	if err != nil {
		return Exit{}, err
	}
	x, err := e.findExec(id)
	if err != nil {
		return Exit{}, err
	}
	defer e.dropExec(x)
	if err := e.ExecStart(ctx, id, streams, false); err != nil {
		x.mu.Lock()
		p := x.process
		x.mu.Unlock()
		if p != nil && !errors.Is(err, ErrDetach) {
			_ = p.Signal(context.WithoutCancel(ctx), syscall.SIGKILL)
		}
		return Exit{}, err
	}
	x.mu.Lock()
	p, exit := x.process, x.exit
	x.mu.Unlock()
	if p == nil {
		return exit, nil
	}
	end, err := p.Wait(ctx)
	return Exit{Code: end.Code, Signal: end.Signal, StartedAt: end.StartedAt, ExitedAt: end.ExitedAt}, err
}

// dropExec forgets an exec that nobody has the ID of.
func (e *Engine) dropExec(x *execution) {
	x.c.mu.Lock()
	delete(x.c.execs, x.id)
	x.c.mu.Unlock()
	e.mu.Lock()
	delete(e.execs, x.id)
	e.mu.Unlock()
}
