// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
)

// StopAll stops and removes every container and sandbox of the instance with all that was made for them, the instance's
// cgroup and run folders included. Containers get their stop signal and their own time to heed it, all at once. Processes of
// the instance that no record knows any more, as after the loss of the run folder, are killed.
func (e *Engine) StopAll(ctx context.Context) error {
	var mu sync.Mutex
	var failed []error
	note := func(err error) {
		if err != nil {
			mu.Lock()
			failed = append(failed, err)
			mu.Unlock()
		}
	}
	var wg sync.WaitGroup
	for _, c := range e.List() {
		wg.Go(func() {
			if err := e.Stop(ctx, c.ID, nil); err != nil {
				note(err)
			}
			note(e.Remove(ctx, c.ID, RemoveOptions{Force: true, Volumes: true}))
		})
	}
	wg.Wait()
	for _, s := range e.Sandboxes() {
		wg.Go(func() { note(e.RemoveSandbox(ctx, s.Spec.ID)) })
	}
	wg.Wait()
	note(e.removeInstanceGroup())
	return errors.Join(failed...)
}

func (e *Engine) removeInstanceGroup() error {
	e.groups.Lock()
	defer e.groups.Unlock()
	g, err := e.layout.Open("/" + e.cfg.Name)
	if err != nil {
		return err
	}
	left, err := g.Procs()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		e.log.Warn("killing processes that belong to no known container", "cgroup", g.Path(), "processes", len(left))
		if err := g.Kill(); err != nil {
			return err
		}
	}
	return g.Delete()
}

// Problem is one broken invariant that Check found.
type Problem struct{ Kind, Object, Detail string }

// String is the line that fsck prints.
func (p Problem) String() string { return p.Kind + " " + p.Object + ": " + p.Detail }

// Check compares what the engine knows with mounts, cgroups, namespaces and folders that are there. It changes nothing.
// Containers that are starting or stopping meanwhile may look broken; ask again.
func (e *Engine) Check(ctx context.Context) []Problem {
	var out []Problem
	add := func(kind, object, format string, args ...any) {
		out = append(out, Problem{kind, object, fmt.Sprintf(format, args...)})
	}
	running := map[string]bool{}
	for _, c := range e.List() {
		running[c.ID] = c.State == Running || c.State == Paused
		if c.State == Dead {
			add("container", c.ID, "its removal failed")
		}
		if !exists(filepath.Join(e.cfg.Dir, "containers", c.ID, recordFile)) {
			add("container", c.ID, "its record is missing")
		}
	}
	sandboxes := map[string]Sandbox{}
	for _, s := range e.Sandboxes() {
		sandboxes[s.Spec.ID] = s
	}
	e.checkFolders(running, sandboxes, add)
	e.checkMounts(running, sandboxes, add)
	e.checkGroups(running, sandboxes, add)
	return out
}

func (e *Engine) checkFolders(running map[string]bool, sandboxes map[string]Sandbox, add func(kind, object, format string, args ...any)) {
	for _, name := range names(filepath.Join(e.cfg.Dir, "containers")) {
		if _, known := running[name]; !known {
			add("folder", name, "belongs to no container")
		}
	}
	for _, name := range names(filepath.Join(e.cfg.RunDir, "containers")) {
		if !running[name] {
			add("run folder", name, "belongs to no running container")
		}
	}
	for _, name := range names(filepath.Join(e.cfg.RunDir, "sandboxes")) {
		if _, known := sandboxes[name]; !known {
			add("run folder", name, "belongs to no sandbox")
		}
	}
	for _, key := range e.cfg.Images.Snapshots() {
		id, ours := strings.CutPrefix(key, snapshotPrefix)
		if _, known := running[id]; ours && !known {
			add("snapshot", key, "belongs to no container")
		}
	}
}

func (e *Engine) checkMounts(running map[string]bool, sandboxes map[string]Sandbox, add func(kind, object, format string, args ...any)) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(e.cfg.RunDir))
	if err != nil {
		add("mounts", e.cfg.RunDir, "%v", err)
	}
	for _, m := range mounts {
		rest, _ := strings.CutPrefix(m.Mountpoint, e.cfg.RunDir+"/")
		kind, rest, _ := strings.Cut(rest, "/")
		id, _, _ := strings.Cut(rest, "/")
		_, known := sandboxes[id]
		if kind == "containers" && !running[id] || kind == "sandboxes" && !known {
			add("mount", m.Mountpoint, "belongs to nothing")
		}
	}
}

func (e *Engine) checkGroups(running map[string]bool, sandboxes map[string]Sandbox, add func(kind, object, format string, args ...any)) {
	groups := map[string]bool{}
	for _, key := range names(filepath.Join(e.cfg.RunDir, "steps")) {
		groups["/"+e.cfg.Name+"/"+key] = true
	}
	for _, s := range sandboxes {
		for p := s.Cgroup; p != "/"; p = path.Dir(p) {
			groups[p] = true
		}
	}
	for _, root := range e.groupRoots() {
		base := root + "/" + e.cfg.Name
		_ = filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() || p == base {
				return nil
			}
			if d.Name() == "pause" && groups[strings.TrimPrefix(filepath.Dir(p), root)] {
				return fs.SkipDir
			}
			if len(d.Name()) == 64 {
				if !running[d.Name()] {
					add("cgroup", p, "belongs to no running container")
				}
				return fs.SkipDir // what is below is the container's own affair
			}
			if !groups[strings.TrimPrefix(p, root)] && !e.leadsToContainer(p) {
				add("cgroup", p, "belongs to no sandbox")
			}
			return nil
		})
	}
}

// leadsToContainer: a parent that a container asked for by name.
func (e *Engine) leadsToContainer(dir string) bool {
	for _, c := range e.List() {
		if parent := c.Spec.CgroupParent; parent != "" && strings.Contains(dir, path.Clean("/"+parent)) {
			return true
		}
	}
	return false
}

func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, d := range entries {
		out = append(out, d.Name())
	}
	return out
}
