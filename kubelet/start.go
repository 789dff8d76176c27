// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/kubelet/podspec"
	"github.com/knarr/knarr/kubelet/volume"
)

// The reasons for a container that does not start.
const (
	createContainerConfigError = "CreateContainerConfigError"
	createContainerError       = "CreateContainerError"
	containerRetry             = 10 * time.Second
)

// startContainer creates a container and starts it. ctx is the worker's, for the hook that follows; step bounds the action.
func (w *worker) startContainer(ctx, step context.Context, s *lifecycle.State, a lifecycle.StartContainer) error {
	spec, err := w.containerSpec(step, s, a)
	if err != nil {
		return w.startFault(s, a.Container, createContainerConfigError, err)
	}
	if err := os.MkdirAll(filepath.Dir(spec.LogPath), 0o755); err != nil {
		return err
	}
	id, err := w.k.rt.CreateContainer(step, spec)
	if err != nil {
		return w.startFault(s, a.Container, createContainerError, err)
	}
	w.eventOn(s.Pod, a.Container, corev1.EventTypeNormal, "Created", "Created container: "+a.Container)
	c, _, _ := lifecycle.FindContainer(s.Pod, a.Container)
	hook := c.Lifecycle != nil && c.Lifecycle.PostStart != nil
	w.change(func(m *lifecycle.Memory) {
		delete(m.Faults, a.Container)
		if hook {
			m.Hooks[id] = lifecycle.Hook{}
		}
	})
	if err := w.k.rt.StartContainer(step, id); err != nil {
		// The runtime lists it as exited, with the error: that is what Status shows.
		w.eventOn(s.Pod, a.Container, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		return errRemembered
	}
	w.eventOn(s.Pod, a.Container, corev1.EventTypeNormal, "Started", "Started container "+a.Container)
	if hook {
		w.postStart(ctx, s, c, id)
	}
	return nil
}

func (w *worker) startFault(s *lifecycle.State, container, reason string, err error) error {
	now := time.Now()
	w.change(func(m *lifecycle.Memory) {
		m.Faults[container] = lifecycle.Fault{Reason: reason, Message: err.Error(), At: now, Retry: now.Add(containerRetry)}
	})
	w.eventOn(s.Pod, container, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
	return errRemembered
}

// containerSpec gathers what a container is made from.
func (w *worker) containerSpec(ctx context.Context, s *lifecycle.State, a lifecycle.StartContainer) (podruntime.ContainerSpec, error) {
	c, _, _ := lifecycle.FindContainer(s.Pod, a.Container)
	in := podspec.Input{Pod: w.podWithAddresses(s), Spec: c, Node: w.k.view, Start: a, Sandbox: *s.Sandbox}
	img, ok, err := w.k.rt.FindImage(ctx, a.ImageID)
	if err == nil && !ok {
		err = errs.New(errs.NotFound, "image %s is gone", a.ImageID)
	}
	if err != nil {
		return podruntime.ContainerSpec{}, err
	}
	in.Image = img
	if in.Env, err = podspec.MakeEnv(in.Pod, c, w.k.view, w.k.sources()); err != nil {
		return podruntime.ContainerSpec{}, err
	}
	if len(in.Env.Skipped) > 0 {
		w.eventOn(s.Pod, a.Container, corev1.EventTypeWarning, "InvalidEnvironmentVariableNames",
			fmt.Sprintf("Keys %q from envFrom were skipped since they are considered invalid environment variable names.", in.Env.Skipped))
	}
	if in.Seccomp, err = w.seccomp(s.Pod, c); err != nil {
		return podruntime.ContainerSpec{}, err
	}
	if err := w.volumeMounts(c, &in); err != nil {
		return podruntime.ContainerSpec{}, err
	}
	if err := w.ownFiles(c, &in); err != nil {
		return podruntime.ContainerSpec{}, err
	}
	return podspec.Container(in)
}

func (w *worker) volumeMounts(c *corev1.Container, in *podspec.Input) error {
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		v, ok := w.paths[m.Name]
		if !ok {
			return errs.New(errs.NotFound, "volume %q of container %s is not mounted", m.Name, c.Name)
		}
		sub, err := in.Env.SubPath(m)
		if err != nil {
			return err
		}
		source := v.Path
		if sub != "" {
			if source, err = volume.BindSubPath(w.k.podDir(w.uid), v.Path, m.Name, sub, c.Name, i); err != nil {
				return fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
		}
		mount, err := podspec.Mount(c, m, v, source)
		if err != nil {
			return err
		}
		in.Mounts = append(in.Mounts, mount)
	}
	return nil
}

// ownFiles makes what the kubelet itself puts into a container: /etc/hosts and the termination message.
func (w *worker) ownFiles(c *corev1.Container, in *podspec.Input) error {
	dir := w.k.podDir(w.uid)
	if !podspec.MountsAt(c, "/etc/hosts") {
		var ips []string
		for _, ip := range in.Pod.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
		hosts := filepath.Join(dir, "etc-hosts")
		if err := rewrite(hosts, podspec.Hosts(in.Pod, w.k.view, ips), 0o644); err != nil {
			return err
		}
		in.Mounts = append(in.Mounts, podruntime.Mount{Source: hosts, Target: "/etc/hosts", Propagation: "rprivate",
			ReadOnly: c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem})
	}
	if c.TerminationMessagePath == "" {
		return nil
	}
	folder := filepath.Join(dir, "containers", c.Name)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	in.Message = filepath.Join(folder, strconv.Itoa(in.Start.Attempt)+".message")
	if err := atomicfile.WriteVolatile(in.Message, nil, 0o666); err != nil { // the container may run as anybody
		return err
	}
	in.Mounts = append(in.Mounts, podruntime.Mount{Source: in.Message, Target: c.TerminationMessagePath, Propagation: "rprivate"})
	if old := in.Start.Attempt - 2; old >= 0 {
		_ = os.Remove(filepath.Join(folder, strconv.Itoa(old)+".message")) // of a run that is collected too
	}
	return nil
}

// rewrite replaces a file's content in place, so that who has it mounted sees the new one. Containers may have written to
// it: it is read no further than the wanted length.
func rewrite(path string, data []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, perm)
	if err != nil {
		return err
	}
	old, err := io.ReadAll(io.LimitReader(f, int64(len(data))+1))
	if err == nil && string(old) != string(data) {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(data, 0)
		}
	}
	return errors.Join(err, f.Chmod(perm), f.Close())
}

// maxProfile bounds a seccomp profile, in bytes.
const maxProfile = 1 << 20

// seccomp reads the profile a container gets. One that cannot be read keeps the container from starting.
func (w *worker) seccomp(p *corev1.Pod, c *corev1.Container) (string, error) {
	profile, file, err := podspec.SeccompFile(p, c)
	if err != nil || file == "" {
		return profile, err
	}
	dir, err := inroot.Open(w.k.cfg.SeccompDir)
	if err != nil {
		return "", fmt.Errorf("seccomp profile %q: %w", file, err)
	}
	defer dir.Close()
	f, err := dir.Open(file, unix.O_RDONLY, 0)
	if err != nil {
		return "", fmt.Errorf("seccomp profile %q in %s: %w", file, w.k.cfg.SeccompDir, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxProfile))
	if err != nil {
		return "", fmt.Errorf("seccomp profile %q: %w", file, err)
	}
	if !json.Valid(b) {
		return "", errs.New(errs.Invalid, "seccomp profile %q is not JSON", file)
	}
	return string(b), nil
}
