// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/knarr/knarr/engine/shim"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// recover makes memory and kernel agree with the folders. Afterwards every folder is a whole container or gone.
func (e *Engine) recover(ctx context.Context) error {
	if err := e.recoverSandboxes(ctx); err != nil {
		return err
	}
	if err := e.sweepSteps(ctx); err != nil {
		return err
	}
	base := filepath.Join(e.cfg.Dir, "containers")
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, d := range entries {
		if !d.IsDir() {
			continue
		}
		if err := e.recoverOne(ctx, d.Name()); err != nil {
			e.log.Error("recover container", "container", d.Name(), "err", err)
		}
	}
	return e.sweep(ctx)
}

func (e *Engine) recoverOne(ctx context.Context, id string) error {
	c := newEntry(id, filepath.Join(e.cfg.Dir, "containers", id), filepath.Join(e.cfg.RunDir, "containers", id))
	if err := atomicfile.Sweep(c.dir); err != nil {
		return err
	}
	rec, err := load(c.dir, recordFile, func(r *record) int { return r.Version })
	half := errors.Is(err, fs.ErrNotExist) || isSyntax(err) // a power cut may leave an empty file where no fsync was asked for
	if err != nil && !half {
		return err
	}
	if half || exists(c.file(removeFile)) {
		c.rec = rec
		if derr := e.dismantle(ctx, c); derr != nil {
			return derr
		}
		return e.clearAway(id, c.dir, c.run)
	}
	c.rec = rec
	if c.st, err = load(c.dir, statusFile, func(s *status) int { return s.Version }); err != nil {
		c.st = status{State: Created}
	}
	for _, m := range rec.Mounts {
		if m.Type == "volume" {
			if err := e.cfg.Volumes.Acquire(m.Name, id); err != nil {
				e.log.Warn("volume of a container", "container", id, "err", err)
				continue
			}
			if c.st.running() {
				if err := e.cfg.Volumes.Mount(ctx, m.Name, id); err != nil {
					e.log.Warn("volume of a container", "container", id, "err", err)
				}
			}
		}
	}
	if err := e.reserve(rec.Spec.Name, id); err != nil {
		return err
	}
	e.containers[id] = c
	return e.takeOver(ctx, c)
}

func isSyntax(err error) bool {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &typ)
}

// takeOver finds out what became of a container while no daemon looked.
func (e *Engine) takeOver(ctx context.Context, c *entry) error {
	if !c.st.running() {
		if exists(c.run) { // a start was interrupted before it was on record
			if err := e.dismantle(ctx, c); err != nil {
				return err
			}
		}
		e.boot(c, false)
		return nil
	}
	c.ended = make(chan struct{})
	client, err := shim.Dial(ctx, c.run)
	if errors.Is(err, errs.NotFound) {
		e.lost(ctx, c)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reach the monitor of %s: %w", c.id, err)
	}
	c.client = client
	// The daemon may have died between recording the start and opening the gate. A gate that is open already is a conflict.
	if err := client.Start(ctx); err != nil && !errors.Is(err, errs.Conflict) && !errors.Is(err, errs.Gone) {
		e.log.Warn("finish an interrupted start", "container", c.id, "err", err)
	}
	// It may also have died between freezing or thawing and recording it, or in a commit, which freezes and records nothing.
	agree := client.Resume
	if c.st.State == Paused {
		agree = client.Pause
	}
	if err := agree(ctx); err != nil && !errors.Is(err, errs.Gone) {
		e.log.Warn("finish an interrupted pause", "container", c.id, "err", err)
	}
	e.rejoinExecs(ctx, c, client)
	e.follow(c, client, -1)
	e.startHealth(c, c.rec)
	return nil
}

// lost handles a run whose monitor is gone: it ended and left its record, or a reboot took it.
func (e *Engine) lost(ctx context.Context, c *entry) {
	exit, known, err := shim.ReadExit(c.run)
	why := ""
	if err != nil || !known {
		exit = shim.Exit{Code: unknownExit, ExitedAt: time.Now()}
		why = "the machine or the container's monitor went down; how the container ended is not known"
	}
	if err := e.conclude(ctx, c, exit, why, false); err != nil {
		e.log.Error("clean up after a lost container", "container", c.id, "err", err)
	}
	e.boot(c, !known)
}

// boot queues what the policies want at a daemon's start for a container that does not run.
func (e *Engine) boot(c *entry, interrupted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s := &c.st; {
	case c.rec.Spec.AutoRemove && s.State != Created:
		e.tasks.add(task{c: c, remove: true})
	case decideBoot(c.rec.Spec.Restart, s.State, s.Stopped, interrupted, s.ExitCode):
		s.State, s.Backoff = Restarting, 0
		c.restart = make(chan struct{})
		e.tasks.add(task{c: c, off: c.restart})
	case s.State == Restarting:
		s.State = Exited
	}
}

// sweep removes run folders and snapshots that belong to no container.
func (e *Engine) sweep(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(e.cfg.RunDir, "containers"))
	if err != nil {
		return err
	}
	for _, d := range entries {
		if id := d.Name(); e.containers[id] == nil && !exists(filepath.Join(e.cfg.Dir, "containers", id)) {
			c := newEntry(id, filepath.Join(e.cfg.Dir, "containers", id), filepath.Join(e.cfg.RunDir, "containers", id))
			if err := e.dismantle(ctx, c); err != nil {
				e.log.Error("clean up a leftover", "container", id, "err", err)
			}
		}
	}
	for _, key := range e.cfg.Images.Snapshots() {
		id, ours := strings.CutPrefix(key, snapshotPrefix)
		if ours && e.containers[id] == nil && !exists(filepath.Join(e.cfg.Dir, "containers", id)) {
			if err := e.cfg.Images.RemoveSnapshot(key); err != nil {
				e.log.Error("clean up a leftover snapshot", "container", id, "err", err)
			}
		}
	}
	return nil
}

// readMaking lists the anonymous volumes of a container that was being made.
func readMaking(dir string) ([]string, error) {
	var names []string
	err := atomicfile.ReadJSON(filepath.Join(dir, makingFile), &names)
	if errors.Is(err, fs.ErrNotExist) || isSyntax(err) {
		return nil, nil
	}
	return names, err
}
