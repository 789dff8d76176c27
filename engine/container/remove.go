// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// RemoveOptions of Remove.
type RemoveOptions struct {
	Force   bool // kill it first; without, a running container is errs.Conflict
	Volumes bool // its anonymous volumes too
}

// removal is remove.json, the plan of a removal: every step is idempotent, and Open finishes what a crash interrupted.
type removal struct {
	Version int      `json:"version"`
	Volumes []string `json:"volumes,omitempty"` // anonymous volumes that go too
	Logs    []string `json:"logs,omitempty"`    // log files outside the container's folder
}

// Remove removes a container with its root file system, log and folder.
func (e *Engine) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if again, err := e.find(c.id); err != nil || again != c { // removed while we waited
		return errs.New(errs.NotFound, "No such container: %s", ref)
	}
	st, rec := c.status(), c.record()
	if st.running() || st.State == Restarting {
		if !o.Force {
			return errs.New(errs.Conflict, `cannot remove container "/%s": container is %s: stop the container before removing or force remove`, rec.Spec.Name, st.State)
		}
		c.callOff()
		if err := e.destroyRun(ctx, c); err != nil {
			return fmt.Errorf("remove container %s: %w", c.id, err)
		}
	}
	return e.remove(context.WithoutCancel(ctx), c, rec, o.Volumes)
}

// destroyRun kills what runs, at once; no policy is asked. op is held.
func (e *Engine) destroyRun(ctx context.Context, c *entry) error {
	client := c.live()
	if client == nil {
		return nil
	}
	if c.status().State == Paused {
		if err := client.Resume(ctx); err != nil && !errors.Is(err, errs.Gone) {
			return err
		}
	}
	if err := client.SignalAll(ctx, syscall.SIGKILL); err != nil && !errors.Is(err, errs.Gone) {
		return err
	}
	exit, err := client.Wait(ctx)
	if err != nil && ctx.Err() != nil {
		return err
	}
	c.set(func(s *status) { s.Stopped = true })
	why := ""
	if err != nil {
		exit.Code, exit.ExitedAt, why = unknownExit, time.Now(), err.Error()
	}
	return e.conclude(context.WithoutCancel(ctx), c, exit, why, false)
}

func (e *Engine) remove(ctx context.Context, c *entry, rec record, volumes bool) error {
	before := c.status().State
	c.set(func(s *status) { s.State = Removing })
	plan := removal{Version: formatVersion}
	if volumes {
		plan.Volumes = rec.Anonymous
	}
	if filepath.Dir(rec.LogPath) != c.dir {
		plan.Logs = logFiles(rec.LogPath, rec.Spec.LogMaxFiles)
	}
	// One that removes itself is removed again by the next Open anyway: its record is plan enough.
	if !rec.Spec.AutoRemove {
		if err := save(c.dir, removeFile, plan, rec.lasting()); err != nil {
			c.set(func(s *status) { s.State = before })
			return err
		}
	}
	for _, m := range rec.Mounts {
		if m.Type == "volume" {
			e.cfg.Volumes.Release(m.Name, c.id)
		}
	}
	if exists(c.run) {
		if err := e.dismantle(ctx, c); err != nil {
			c.set(func(s *status) { s.State = Dead })
			return fmt.Errorf("remove container %s: %w", c.id, err)
		}
	}
	if err := e.execute(plan, c.id, c.dir); err != nil {
		c.set(func(s *status) { s.State = Dead })
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	e.emit(c, "destroy", nil)
	e.expel(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone.exit = c.st.exit()
	close(c.gone.ch)
	close(c.exits.ch) // who waits for a next exit waits in vain
	c.exits = newExitWait()
	return nil
}

// execute does what a removal says. The folder goes last: as long as it is there, Open tries again.
func (e *Engine) execute(plan removal, id, dir string) error {
	for _, v := range plan.Volumes {
		if err := e.cfg.Volumes.Remove(v); err != nil && !errors.Is(err, errs.NotFound) && !errors.Is(err, errs.Conflict) {
			return err // in use by another container (--volumes-from): it stays
		}
	}
	for _, l := range plan.Logs {
		if err := os.Remove(l); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := e.cfg.Images.RemoveSnapshot(snapshotPrefix + id); err != nil {
		return err
	}
	return e.discard(dir)
}

func logFiles(path string, count int) []string {
	out := []string{path}
	for i := 1; i < count; i++ {
		out = append(out, path+"."+strconv.Itoa(i))
	}
	return out
}

// clearAway removes what is left of a container that was never finished, or whose removal was interrupted: by its ID alone.
func (e *Engine) clearAway(id, dir, run string) error {
	plan, err := load(dir, removeFile, func(r *removal) int { return r.Version })
	if err != nil {
		var making []string
		if making, err = readMaking(dir); err != nil {
			return err
		}
		plan = removal{Volumes: making}
	}
	for _, v := range e.cfg.Volumes.List() {
		if slices.Contains(e.cfg.Volumes.Users(v.Name), id) {
			e.cfg.Volumes.Release(v.Name, id)
		}
	}
	if exists(filepath.Join(run, "rootfs")) {
		if err := e.cfg.Images.Unmount(filepath.Join(run, "rootfs")); err != nil {
			return err
		}
		if err := removeRun(run); err != nil {
			return err
		}
	}
	return e.execute(plan, id, dir)
}
