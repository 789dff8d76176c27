// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"path"
	"slices"
	"strings"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountFlags maps fstab words to bits set and cleared (mount(8), "file-system-independent mount options"). The same word with an
// "r" before it holds for everything below as well, where the kernel offers that.
var mountFlags = map[string]Attr{
	"ro": {Set: unix.MOUNT_ATTR_RDONLY}, "rw": {Clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid": {Set: unix.MOUNT_ATTR_NOSUID}, "suid": {Clear: unix.MOUNT_ATTR_NOSUID},
	"nodev": {Set: unix.MOUNT_ATTR_NODEV}, "dev": {Clear: unix.MOUNT_ATTR_NODEV},
	"noexec": {Set: unix.MOUNT_ATTR_NOEXEC}, "exec": {Clear: unix.MOUNT_ATTR_NOEXEC},
	"nodiratime": {Set: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {Clear: unix.MOUNT_ATTR_NODIRATIME},
	"noatime":       {Set: unix.MOUNT_ATTR_NOATIME, Clear: unix.MOUNT_ATTR__ATIME},
	"relatime":      {Set: unix.MOUNT_ATTR_RELATIME, Clear: unix.MOUNT_ATTR__ATIME},
	"strictatime":   {Set: unix.MOUNT_ATTR_STRICTATIME, Clear: unix.MOUNT_ATTR__ATIME},
	"atime":         {Set: unix.MOUNT_ATTR_RELATIME, Clear: unix.MOUNT_ATTR__ATIME},
	"nosymfollow":   {Set: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"symfollow":     {Clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"norelatime":    {},
	"nostrictatime": {},
}

// ignored are words that say nothing the step does not know already.
var ignored = []string{"defaults", "bind", "rbind", "nofail", "_netdev", "loud", "idmap", "ridmap"}

func isBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

func (b *builder) mount(m specs.Mount) error {
	if m.Destination == "" {
		return errs.New(errs.Invalid, "no destination")
	}
	target := path.Join("/", m.Destination)
	if target == "/" {
		return errs.New(errs.Invalid, "the root itself cannot be a destination")
	}
	s := Step{Op: OpMount, Target: target, Source: m.Source, FSType: m.Type}
	idmap, err := b.idMap(m)
	if err != nil {
		return err
	}
	s.IDMap = idmap
	for _, o := range m.Options {
		s.option(o)
	}
	if isBind(m) {
		s.Op, s.FSType = OpBind, ""
		s.Recursive = slices.Contains(m.Options, "rbind")
		if m.Source == "" {
			return errs.New(errs.Invalid, "a bind mount needs a source")
		}
		s.Options = nil // data of the file system is already decided
		b.add(s)
		return nil
	}
	switch m.Type {
	case "":
		return errs.New(errs.Invalid, "no type")
	case "cgroup", "cgroup2":
		b.cgroupView(s)
		return nil
	case "proc", "sysfs":
		s.Fallback = b.own(specs.UserNamespace)
		// Their place is fixed: were they elsewhere, a masked path would hide nothing (CVE-2019-16884 and its kin).
		if s.Source == "" {
			s.Source = m.Type
		}
	}
	b.add(s)
	return nil
}

// idMap is the mapping of one mount. The words idmap and ridmap alone mean the container's own (config.md, "Mounts").
func (b *builder) idMap(m specs.Mount) (*IDMap, error) {
	recursive := slices.Contains(m.Options, "ridmap")
	if len(m.UIDMappings) == 0 && len(m.GIDMappings) == 0 {
		if !recursive && !slices.Contains(m.Options, "idmap") {
			return nil, nil
		}
		m.UIDMappings, m.GIDMappings = b.linux.UIDMappings, b.linux.GIDMappings
	}
	switch {
	case len(m.UIDMappings) == 0 || len(m.GIDMappings) == 0:
		return nil, errs.New(errs.Invalid, "an id-mapped mount needs both uidMappings and gidMappings, its own or the container's")
	case !isBind(m):
		return nil, errs.New(errs.Unsupported, "only bind mounts can be id-mapped")
	}
	return &IDMap{UIDs: m.UIDMappings, GIDs: m.GIDMappings, Recursive: recursive}, nil
}

// option sorts one fstab word: a bit of the mount, of the tree, a propagation, or the file system's own.
func (s *Step) option(o string) {
	if f, ok := mountFlags[o]; ok {
		s.Attr.merge(f)
		return
	}
	if f, ok := propagations[o]; ok {
		s.Propagation = append(s.Propagation, f)
		return
	}
	if rest, ok := strings.CutPrefix(o, "r"); ok {
		if f, ok := mountFlags[rest]; ok {
			s.RecAttr.merge(f)
			return
		}
	}
	if o == "tmpcopyup" {
		s.CopyUp = true
		return
	}
	if slices.Contains(ignored, o) {
		return
	}
	s.Options = append(s.Options, o)
}

// merge lets a later word win over an earlier one.
func (a *Attr) merge(f Attr) {
	a.Set = a.Set&^f.Clear | f.Set
	a.Clear = a.Clear&^f.Set | f.Clear
}

// cgroupView shows the container its own group: the v2 tree alone on a pure v2 machine, else one directory per v1 hierarchy on
// a small tmpfs, with the v2 tree beside them where there is one.
func (b *builder) cgroupView(s Step) {
	own := b.own(specs.CgroupNamespace)
	view := func(target, source, fstype string, options []string) {
		v := Step{Op: OpMount, Target: target, Source: "cgroup", FSType: fstype, Options: options, Attr: s.Attr, Propagation: s.Propagation}
		if !own {
			v = Step{Op: OpBind, Target: target, Source: source + b.facts.CgroupPath, Attr: s.Attr, Propagation: s.Propagation}
		}
		b.add(v)
	}
	if len(b.facts.CgroupV1) == 0 {
		view(s.Target, b.facts.CgroupV2, "cgroup2", nil)
		return
	}
	top := Step{Op: OpMount, Target: s.Target, Source: "tmpfs", FSType: "tmpfs", Options: []string{"mode=755", "size=64k"}, Attr: s.Attr}
	top.Attr.Set &^= unix.MOUNT_ATTR_RDONLY
	b.add(top)
	together := map[string][]string{} // controllers by the hierarchy they share
	for c, dir := range b.facts.CgroupV1 {
		together[dir] = append(together[dir], c)
	}
	dirs := make([]string, 0, len(together))
	for dir := range together {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		controllers := together[dir]
		slices.Sort(controllers)
		view(path.Join(s.Target, path.Base(dir)), dir, "cgroup", controllers)
		for _, c := range controllers {
			if c != path.Base(dir) {
				b.add(Step{Op: OpSymlink, Source: path.Base(dir), Target: path.Join(s.Target, c)})
			}
		}
	}
	if b.facts.CgroupV2 != "" {
		view(path.Join(s.Target, "unified"), b.facts.CgroupV2, "cgroup2", nil)
	}
	if s.Attr.Set&unix.MOUNT_ATTR_RDONLY != 0 {
		b.add(Step{Op: OpReadonly, Target: s.Target, Flags: unix.MS_REMOUNT})
	}
}
