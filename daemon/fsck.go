// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// How often, at most, and how far apart the checks are done: what is on its way when the first looks is no problem.
const (
	checkLooks = 4
	checkEvery = 250 * time.Millisecond
)

// check asks each part of the engine for its broken invariants. Only what all looks find is one.
func (e *engine) check(ctx context.Context, deep bool) ([]string, error) {
	problems, err := e.look(ctx)
	for range checkLooks - 1 {
		if err != nil || len(problems) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(checkEvery):
		}
		var again []string
		again, err = e.look(ctx)
		problems = slices.DeleteFunc(problems, func(p string) bool { return !slices.Contains(again, p) })
	}
	if err == nil && deep {
		for _, f := range e.images.CheckContent(ctx) {
			problems = append(problems, "images: "+f.Error())
		}
	}
	slices.Sort(problems)
	return slices.Compact(problems), err
}

func (e *engine) look(ctx context.Context) ([]string, error) {
	out := []string{}
	add := func(area string, list []string) {
		for _, p := range list {
			out = append(out, area+": "+p)
		}
	}
	for _, err := range e.images.Check(ctx, false) {
		add("images", []string{err.Error()})
	}
	for _, p := range e.containers.Check(ctx) {
		add("containers", []string{p.String()})
	}
	found, err := e.networks.Check()
	if err != nil {
		return nil, fmt.Errorf("check networks: %w", err)
	}
	add("networks", found)
	if found, err = e.volumes.Check(); err != nil {
		return nil, fmt.Errorf("check volumes: %w", err)
	}
	add("volumes", found)
	return out, nil
}

// Fsck checks an instance whose daemon does not run. Opening the engine is a recovery, as each start is: what it mends is
// no problem.
func Fsck(ctx context.Context, cfg Config, deep bool, out io.Writer, log *slog.Logger) error {
	if err := os.MkdirAll(cfg.RunDir, 0o711); err != nil {
		return err
	}
	locked, err := lock(cfg.RunDir)
	if err != nil {
		return err
	}
	defer locked.Close()
	eng, err := openEngine(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer eng.close()
	problems, err := eng.check(ctx, deep)
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintln(out, p)
	}
	if len(problems) > 0 {
		return errs.New(errs.Conflict, "fsck: %d problems", len(problems))
	}
	return nil
}
