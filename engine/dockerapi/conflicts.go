// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"fmt"
	"path"
	"slices"
	"strings"

	dcontainer "github.com/moby/moby/api/types/container"
)

// conflicts lists what of a request excludes each other, in Docker's words.
func conflicts(c *dcontainer.Config, h *dcontainer.HostConfig) []error {
	var out []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Errorf(format, args...))
		}
	}
	shared := h.NetworkMode.IsContainer()
	add(h.UTSMode.IsHost() && c.Hostname != "", "conflicting options: hostname and the UTS mode")
	add(shared && c.Hostname != "", "conflicting options: hostname and the network mode")
	add(shared && len(h.DNS) > 0, "conflicting options: dns and the network mode")
	add(shared && len(h.ExtraHosts) > 0, "conflicting options: custom host-to-IP mapping and the network mode")
	add(shared && (len(h.PortBindings) > 0 || h.PublishAllPorts), "conflicting options: port publishing and the container type network mode")
	add(shared && len(c.ExposedPorts) > 0, "conflicting options: port exposing and the container type network mode")
	add(c.WorkingDir != "" && !path.IsAbs(c.WorkingDir), "the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	add(h.ShmSize < 0, "SHM size can not be less than 0")
	add(c.StopTimeout != nil && *c.StopTimeout < -1, "invalid stop timeout %d: it is a number of seconds, or -1 for ever", deref(c.StopTimeout))
	for target, options := range h.Tmpfs {
		for o := range strings.SplitSeq(options, ",") {
			name, _, valued := strings.Cut(o, "=")
			add(o != "" && !slices.Contains(tmpfsOptions(valued), name), "invalid tmpfs option %q of %s", o, target)
		}
	}
	return out
}

func deref(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// tmpfsOptions are those of tmpfs(5) and mount(8) that a container may choose.
func tmpfsOptions(valued bool) []string {
	if valued {
		return []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"}
	}
	return []string{"rw", "ro", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "atime", "noatime",
		"diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "mand", "nomand", "defaults", "remount", "bind", "rbind",
		"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}
}
