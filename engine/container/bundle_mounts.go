// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const defaultShmSize = 64 << 20

// systemMounts are the file systems that every container has.
func (p Plan) systemMounts() []specs.Mount {
	ro := "ro"
	if p.Spec.Security.Privileged {
		ro = "rw"
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", ro}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", ro}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}}, // of the IPC namespace it is mounted in
		p.shmMount(),
	}
}

func (p Plan) shmMount() specs.Mount {
	if p.Shm != "" {
		return bind("/dev/shm", p.Shm, "rbind", "rprivate")
	}
	size := p.Spec.ShmSize
	if size == 0 {
		size = defaultShmSize
	}
	return specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)}}
}

// mounts answers all mounts in the order in which they are made: a mount below another comes after it. A mount the user
// asks for at the very place of one of ours replaces ours.
func (p Plan) mounts() []specs.Mount {
	var user []specs.Mount
	taken := map[string]bool{}
	for _, m := range p.Mounts {
		user = append(user, p.userMount(m))
		taken[m.Target] = true
	}
	for _, target := range slices.Sorted(maps.Keys(p.Files)) {
		if !taken[target] {
			user = append(user, bind(target, p.Files[target], "rbind", "rprivate"))
		}
	}
	if p.Init != "" {
		user = append(user, bind(initPath, p.Init, "rbind", "ro"))
	}
	slices.SortStableFunc(user, func(a, b specs.Mount) int { return cmp.Compare(depth(a.Destination), depth(b.Destination)) })
	system := slices.DeleteFunc(p.systemMounts(), func(m specs.Mount) bool {
		return taken[m.Destination] || m.Destination == "/dev/shm" && p.Spec.IpcMode == "none" || taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/")
	})
	return append(system, user...)
}

func (p Plan) userMount(m MountPoint) specs.Mount {
	if m.Type == "tmpfs" {
		options := append([]string{"nosuid", "nodev", "noexec"}, m.Options...)
		if m.ReadOnly {
			options = append(options, "ro")
		}
		return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options}
	}
	kind := "rbind"
	if m.NonRecursive {
		kind = "bind"
	}
	options := append([]string{kind}, m.Options...)
	switch {
	case m.ReadOnly && m.Type == "bind" && !m.ReadOnlyShallow && !m.NonRecursive:
		options = append(options, "rro") // what is mounted below is read-only too
	case m.ReadOnly:
		options = append(options, "ro")
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = "rprivate"
	}
	return bind(m.Target, m.Source, append(options, propagation)...)
}

func bind(target, source string, options ...string) specs.Mount {
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: options}
}

func depth(target string) int { return strings.Count(path.Clean(target), "/") }
