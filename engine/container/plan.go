// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// plan finds out what Bundle needs to know. The root file system is mounted.
func (e *Engine) plan(c *entry, rec record, at place) (Plan, error) {
	root, err := inroot.Open(c.rootfs())
	if err != nil {
		return Plan{}, err
	}
	defer root.Close()
	user, home, err := lookupUser(root, rec.Config.User, rec.Spec.Groups, rec.Spec.OnlyGroups)
	if err != nil {
		return Plan{}, err
	}
	if err := makeWorkingDir(root, rec.Config.WorkingDir); err != nil {
		return Plan{}, err
	}
	parent, err := e.cgroupParent(rec)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{
		Spec: rec.Spec, Config: rec.Config, Args: rec.Args, User: user, Home: home, Hostname: at.hostname,
		Rootfs: c.rootfs(), Mounts: rec.Mounts, Files: at.files, Namespaces: at.namespaces, Cgroup: parent + "/" + c.id, Shm: at.shm,
		Bounding: e.bounding, SwapLimit: e.abilities.Swap, Seccomp: e.profiles.Profile,
	}
	p.Config.Env = mergeEnv(at.env, rec.Config.Env)
	if rec.Spec.Init {
		p.Init = e.cfg.ShimBinary
	}
	if p.BlockIO, err = blockIO(rec.Spec.Resources); err != nil {
		return p, err
	}
	if rec.Spec.Security.Privileged {
		p.Devices, err = hostDevices("/dev")
		return p, err
	}
	p.Devices, p.DeviceRule, err = passedDevices(rec.Spec.Resources.Devices)
	for _, rule := range rec.Spec.Resources.DeviceRules {
		r, err := parseDeviceRule(rule)
		if err != nil {
			return p, err
		}
		p.DeviceRule = append(p.DeviceRule, r)
	}
	return p, err
}

// makeWorkingDir makes a missing working directory, as Docker does: an image need not have it. No link of the image leads out.
func makeWorkingDir(root *inroot.Dir, dir string) error {
	switch st, err := root.Stat(dir); {
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return errs.New(errs.Invalid, "Cannot mkdir: %s is not a directory", dir)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("working directory %s: %w", dir, err)
	}
	made, err := root.MkdirAll(dir, 0o755, nil)
	if err != nil {
		return fmt.Errorf("make the working directory %s: %w", dir, err)
	}
	return made.Close()
}

// cgroupParent is the group that a container's own group is made in.
func (e *Engine) cgroupParent(rec record) (string, error) {
	own := "/" + e.cfg.Name
	parent := rec.Spec.CgroupParent
	switch {
	case rec.Spec.Sandbox != "":
		e.mu.RLock()
		defer e.mu.RUnlock()
		s := e.sandboxes[rec.Spec.Sandbox]
		if s == nil {
			return "", errs.New(errs.NotFound, "No such sandbox: %s", rec.Spec.Sandbox)
		}
		return s.rec.Cgroup, nil
	case parent == "":
		return own, nil
	case path.IsAbs(parent):
		if parent = path.Clean(parent); parent != "/" {
			return parent, nil
		}
		return own, nil
	}
	return below(own, parent), nil
}

// below joins a relative path to a group without ever leaving it.
func below(group, relative string) string { return path.Join(group, path.Clean("/"+relative)) }

// passedDevices resolves devices of the host, and folders of such, to nodes and rules.
func passedDevices(list []Device) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	var nodes []specs.LinuxDevice
	var rules []specs.LinuxDeviceCgroup
	for _, d := range list {
		target := cmp.Or(d.ContainerPath, d.HostPath)
		found := map[string]string{d.HostPath: target}
		if st, err := os.Stat(d.HostPath); err == nil && st.IsDir() {
			found = map[string]string{}
			err := filepath.WalkDir(d.HostPath, func(p string, entry fs.DirEntry, err error) error {
				if err == nil && entry.Type()&fs.ModeDevice != 0 {
					found[p] = target + strings.TrimPrefix(p, d.HostPath)
				}
				return err
			})
			if err != nil {
				return nil, nil, err
			}
		}
		for host, inside := range found {
			node, err := deviceNode(host)
			if err != nil {
				return nil, nil, errs.New(errs.Invalid, "error gathering device information while adding custom device %q: %w", d.HostPath, err)
			}
			node.Path = inside
			nodes = append(nodes, node)
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: node.Type, Major: &node.Major, Minor: &node.Minor, Access: cmp.Or(d.Permissions, "rwm")})
		}
	}
	return nodes, rules, nil
}

func deviceNode(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	d := specs.LinuxDevice{Path: path, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), UID: &st.Uid, GID: &st.Gid}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return d, fmt.Errorf("%s is not a device node", path)
	}
	mode := os.FileMode(st.Mode & 0o777)
	d.FileMode = &mode
	return d, nil
}

// hostDevices lists the host's device nodes for a privileged container, but those that every container has of its own.
func hostDevices(dir string) ([]specs.LinuxDevice, error) {
	own := map[string]bool{"pts": true, "shm": true, "fd": true, "mqueue": true, "console": true, "ptmx": true, "null": true,
		"zero": true, "full": true, "random": true, "urandom": true, "tty": true, ".lxc": true, ".lxd-mounts": true, ".udev": true}
	var out []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a node that went away
		}
		if filepath.Dir(p) == dir && own[d.Name()] {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type()&fs.ModeDevice != 0 {
			if node, err := deviceNode(p); err == nil {
				out = append(out, node)
			}
		}
		return nil
	})
	return out, err
}
