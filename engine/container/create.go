// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// Create validates s, resolves its image and makes a container that is ready to start. A name that is taken is
// errs.Conflict, a missing image or sandbox errs.NotFound, a bad field errs.Invalid.
func (e *Engine) Create(ctx context.Context, s Spec) (Container, error) {
	fitted, warnings, err := fit(s.Resources, e.abilities, false)
	if err := errors.Join(validate(s), err); err != nil {
		return Container{}, err
	}
	s.Resources = fitted
	img, err := e.cfg.Images.Get(s.Image)
	if err != nil {
		return Container{}, err
	}
	merged, args, err := merge(img.Config.Config, s)
	if err != nil {
		return Container{}, err
	}
	if err := checkUser(merged.User); err != nil {
		return Container{}, err
	}
	stop := cmp.Or(merged.StopSignal, "SIGTERM")
	if _, err := parseSignal(stop); err != nil {
		return Container{}, err
	}
	c, err := e.admit(s)
	if err != nil {
		return Container{}, err
	}
	c.op.Lock()
	defer c.op.Unlock()
	c.rec.Version, c.rec.ID, c.rec.Created = formatVersion, c.id, time.Now()
	c.rec.ImageID, c.rec.Config, c.rec.Args, c.rec.StopSignal = img.ID, merged, args, stop
	if !s.NoLog {
		c.rec.LogPath = cmp.Or(s.LogPath, filepath.Join(c.dir, "log"))
	}
	c.rec.Networks = e.furtherNetworks(s)
	c.st.State = Created
	if err := e.furnish(ctx, c, img); err != nil {
		e.expel(c)
		return Container{}, errors.Join(err, e.clearAway(c.id, c.dir, c.run))
	}
	e.mu.Lock()
	e.containers[c.id] = c
	e.mu.Unlock()
	e.emit(c, "create", nil)
	view := c.view()
	view.Warnings = warnings
	return view, nil
}

// furtherNetworks answers s.Networks by name, without the main one.
func (e *Engine) furtherNetworks(s Spec) map[string]NetworkSpec {
	var out map[string]NetworkSpec
	main := mainNetwork(record{Spec: s})
	for ref, n := range s.Networks {
		if net, err := e.cfg.Networks.Get(ref); err == nil { // else the start will say that there is none
			ref = net.Name
		}
		if ref == main {
			continue
		}
		if out == nil {
			out = map[string]NetworkSpec{}
		}
		n.Mode = ref
		out[ref] = n
	}
	return out
}

// admit gives a new container its ID and name. It is not listed before it is furnished.
func (e *Engine) admit(s Spec) (*entry, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errs.New(errs.Unavailable, "the engine is closing")
	}
	if s.Sandbox != "" && e.sandboxes[s.Sandbox] == nil {
		return nil, errs.New(errs.NotFound, "No such sandbox: %s", s.Sandbox)
	}
	id := newID()
	if s.Name == "" {
		s.Name = inventName(func(n string) bool { return e.names[n] != "" })
	}
	if err := e.reserve(s.Name, id); err != nil {
		return nil, err
	}
	c := newEntry(id, filepath.Join(e.cfg.Dir, "containers", id), filepath.Join(e.cfg.RunDir, "containers", id))
	c.rec.Spec = s
	return c, nil
}

// expel takes back what admit gave.
func (e *Engine) expel(c *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, c.id)
	if e.names[c.rec.Spec.Name] == c.id {
		delete(e.names, c.rec.Spec.Name)
	}
}

// furnish makes what a container has on disk. Until container.json is written, a crash leaves nothing that the next Open does
// not sweep.
func (e *Engine) furnish(ctx context.Context, c *entry, img image.Image) error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	plan := planMounts(c.rec.Spec, c.rec.Config.Volumes, newID)
	for _, m := range plan {
		if m.anonymous {
			c.rec.Anonymous = append(c.rec.Anonymous, m.Name)
		}
	}
	if len(c.rec.Anonymous) > 0 {
		if err := save(c.dir, makingFile, c.rec.Anonymous, false); err != nil {
			return err
		}
	}
	files, err := e.resolveSources(ctx, c.id, plan)
	if err != nil {
		return err
	}
	if _, err := e.cfg.Images.Prepare(ctx, c.key(), img, files); err != nil {
		return err
	}
	if err := e.copyUp(ctx, c, plan); err != nil {
		return err
	}
	for _, m := range plan {
		c.rec.Mounts = append(c.rec.Mounts, m.MountPoint)
	}
	if err := save(c.dir, recordFile, c.rec, c.rec.lasting()); err != nil {
		return err
	}
	if len(c.rec.Anonymous) > 0 {
		if err := os.Remove(filepath.Join(c.dir, makingFile)); err != nil {
			return err
		}
	}
	if c.rec.lasting() {
		return atomicfile.SyncDir(filepath.Dir(c.dir))
	}
	return nil
}

// plannedMount is a MountPoint with what is to be done about its source.
type plannedMount struct {
	MountPoint
	anonymous, noCopy, createSource bool
	labels, volumeOptions           map[string]string
}

// planMounts decides all mounts of a container: those asked for, tmpfs, and an anonymous volume for each VOLUME of the image
// that nothing else covers. Targets are clean; parents come before what lies below them.
func planMounts(s Spec, volumes map[string]struct{}, newName func() string) []plannedMount {
	var out []plannedMount
	covered := map[string]bool{}
	add := func(m plannedMount) {
		m.Target = path.Clean("/" + m.Target)
		if covered[m.Target] || m.Target == "/" {
			return
		}
		covered[m.Target] = true
		if m.Type == "volume" && m.Name == "" {
			m.Name, m.anonymous = newName(), true
		}
		out = append(out, m)
	}
	for _, m := range s.Mounts {
		p := plannedMount{MountPoint: MountPoint{Type: m.Type, Target: m.Target, ReadOnly: m.ReadOnly, Propagation: m.Propagation, Options: m.Options,
			Subpath: m.Subpath, NonRecursive: m.NonRecursive, ReadOnlyShallow: m.ReadOnlyShallow},
			noCopy: m.NoCopy || m.Subpath != "", createSource: m.CreateSource, labels: m.VolumeLabels, volumeOptions: m.VolumeOptions}
		if m.Type == "volume" || m.Type == "image" {
			p.Name = m.Source
		} else if m.Type == "bind" {
			p.Source = path.Clean(m.Source)
		}
		add(p)
	}
	for _, target := range slices.Sorted(maps.Keys(s.Tmpfs)) {
		m := MountPoint{Type: "tmpfs", Target: target}
		if s.Tmpfs[target] != "" {
			m.Options = strings.Split(s.Tmpfs[target], ",")
		}
		add(plannedMount{MountPoint: m})
	}
	for _, target := range slices.Sorted(maps.Keys(volumes)) {
		add(plannedMount{MountPoint: MountPoint{Type: "volume", Target: target}})
	}
	slices.SortStableFunc(out, func(a, b plannedMount) int { return cmp.Compare(depth(a.Target), depth(b.Target)) })
	return out
}

// resolveSources makes volumes and missing folders, fills in the host paths, and answers the mount points that the root file
// system needs.
func (e *Engine) resolveSources(ctx context.Context, id string, plan []plannedMount) (image.InitFiles, error) {
	var files image.InitFiles
	for i := range plan {
		m := &plan[i]
		dir := true
		switch m.Type {
		case "volume":
			if err := e.resolveVolume(id, m); err != nil {
				return files, err
			}
			if m.Subpath != "" {
				dir = !e.isFileIn(ctx, id, m)
			}
		case "image":
			m.ReadOnly = true
			if _, err := e.cfg.Images.Get(m.Name); err != nil {
				return files, err
			}
		case "bind":
			isDir, err := resolveBind(m)
			if err != nil {
				return files, err
			}
			dir = isDir
		}
		if dir {
			files.Dirs = append(files.Dirs, m.Target)
		} else {
			files.Files = append(files.Files, m.Target)
		}
	}
	return files, nil
}

func (e *Engine) resolveVolume(id string, m *plannedMount) error {
	labels := maps.Clone(m.labels)
	if m.anonymous {
		if labels == nil {
			labels = map[string]string{}
		}
		labels[anonymousLabel] = ""
	}
	if _, err := e.cfg.Volumes.Create(m.Name, "local", labels, m.volumeOptions); err != nil {
		return err
	}
	if err := e.cfg.Volumes.Acquire(m.Name, id); err != nil {
		return err
	}
	p, err := e.cfg.Volumes.Path(m.Name)
	m.Source = p
	return err
}

// isFileIn says whether the part of a volume that is to be mounted is a file. One that is not there yet counts as a folder: the
// start will say so if it is missing then too.
func (e *Engine) isFileIn(ctx context.Context, id string, m *plannedMount) bool {
	if err := e.cfg.Volumes.Mount(ctx, m.Name, id); err != nil {
		return false
	}
	defer func() {
		if err := e.cfg.Volumes.Unmount(m.Name, id); err != nil {
			e.log.Warn("volume of a container", "container", id, "err", err)
		}
	}()
	f, err := e.cfg.Volumes.Sub(m.Name, m.Subpath)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	return err == nil && !st.IsDir()
}

// anonymousLabel is Docker's mark on volumes that nobody named.
const anonymousLabel = "com.docker.volume.anonymous"

func resolveBind(m *plannedMount) (isDir bool, err error) {
	st, err := os.Stat(m.Source)
	if errors.Is(err, fs.ErrNotExist) && m.createSource {
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return false, fmt.Errorf("make the source of the mount at %s: %w", m.Target, err)
		}
		return true, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, errs.New(errs.Invalid, `invalid mount config for type "bind": bind source path does not exist: %s`, m.Source)
	}
	if err != nil {
		return false, errs.New(errs.Invalid, `invalid mount config for type "bind": %w`, err)
	}
	return st.IsDir(), nil
}

// copyUp fills fresh volumes with what the image has at their place.
func (e *Engine) copyUp(ctx context.Context, c *entry, plan []plannedMount) (err error) {
	for _, m := range plan {
		if m.Type != "volume" {
			continue
		}
		if err := e.cfg.Volumes.Mount(ctx, m.Name, c.id); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, e.cfg.Volumes.Unmount(m.Name, c.id)) }()
	}
	fresh := slices.DeleteFunc(slices.Clone(plan), func(m plannedMount) bool { return m.Type != "volume" || m.noCopy || !isEmpty(m.Source) })
	if len(fresh) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.rootfs(), 0o700); err != nil {
		return err
	}
	if err := e.cfg.Images.Mount(c.key(), c.rootfs()); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, e.cfg.Images.Unmount(c.rootfs()))
		if err == nil {
			err = removeRun(c.run)
		}
	}()
	for _, m := range fresh {
		if err := e.cfg.Volumes.CopyUp(m.Name, c.rootfs(), m.Target); err != nil {
			return fmt.Errorf("copy %s of the image to volume %s: %w", m.Target, m.Name, err)
		}
	}
	return nil
}

// isEmpty saves the mount that CopyUp would need to find out that the volume has content.
func isEmpty(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return true
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	return err != nil
}
