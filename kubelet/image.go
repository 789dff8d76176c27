// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/state/cache"
)

// The back-off of pulls, as upstream's.
const (
	firstPullBackoff = 10 * time.Second
	maxPullBackoff   = 5 * time.Minute
	pullTimeout      = time.Hour
)

// lookForImage begins a container's way to its image.
func (w *worker) lookForImage(ctx context.Context, s *lifecycle.State, a lifecycle.LookForImage) error {
	img, ok, err := w.k.rt.FindImage(ctx, a.Image)
	if errors.Is(err, errs.Invalid) {
		w.imageFault(s, a.Container, a.Image, a.Attempt, lifecycle.InvalidImageName,
			fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: %v", a.Image, a.Image, err))
		return errRemembered
	}
	if err != nil {
		return err
	}
	spec, _, _ := lifecycle.FindContainer(s.Pod, a.Container)
	p := lifecycle.Pull{Image: a.Image, Attempt: a.Attempt}
	if !lifecycle.NeedsPull(spec.ImagePullPolicy, ok, img.Local) {
		p.ImageID = img.ID
		w.eventOn(s.Pod, a.Container, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine", a.Image))
	}
	w.change(func(m *lifecycle.Memory) {
		if old := m.Pulls[a.Container]; old.Image == a.Image {
			p.Backoff = old.Backoff
		}
		m.Pulls[a.Container] = p
	})
	return nil
}

// imageFault notes that a container has no image for now.
func (w *worker) imageFault(s *lifecycle.State, container, image string, attempt int, reason, message string) {
	now := time.Now()
	w.update(func(m *lifecycle.Memory) {
		p := m.Pulls[container]
		backoff := max(p.Backoff, firstPullBackoff)
		m.Pulls[container] = lifecycle.Pull{Image: image, Attempt: attempt, Backoff: min(2*backoff, maxPullBackoff),
			Fault: &lifecycle.Fault{Reason: reason, Message: message, At: now, Retry: now.Add(backoff)}}
	})
	if reason == lifecycle.ErrImagePull {
		w.eventOn(s.Pod, container, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", image, message))
	} else {
		w.eventOn(s.Pod, container, corev1.EventTypeWarning, reasonOfFault[reason], message)
	}
	w.eventOn(s.Pod, container, corev1.EventTypeWarning, "Failed", "Error: "+reason)
}

// reasonOfFault are the reasons of the events that tell of a fault.
var reasonOfFault = map[string]string{lifecycle.ErrImageNeverPull: "ErrImageNeverPull", lifecycle.InvalidImageName: "InspectFailed"}

func (w *worker) failImage(s *lifecycle.State, a lifecycle.FailImage) {
	w.mu.Lock()
	attempt := w.mem.Pulls[a.Container].Attempt
	w.mu.Unlock()
	w.imageFault(s, a.Container, a.Image, attempt, lifecycle.ErrImageNeverPull, a.Message)
}

// pullImage pulls in the background; the worker goes on meanwhile.
func (w *worker) pullImage(ctx context.Context, s *lifecycle.State, a lifecycle.PullImage) {
	w.change(func(m *lifecycle.Memory) {
		p := m.Pulls[a.Container]
		p.Running = true
		m.Pulls[a.Container] = p
	})
	w.eventOn(s.Pod, a.Container, corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", a.Image))
	creds := w.k.credentials(s.Pod, a.Image)
	w.background.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, pullTimeout)
		defer cancel()
		began := time.Now()
		img, err := w.k.pulls.do(ctx, w.k.rt, a.Image, creds)
		if err != nil {
			if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				w.imageFault(s, a.Container, a.Image, a.Attempt, lifecycle.ErrImagePull, err.Error())
			}
			return
		}
		took := time.Since(began).Truncate(time.Millisecond)
		w.eventOn(s.Pod, a.Container, corev1.EventTypeNormal, "Pulled",
			fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.", a.Image, took, took, img.Size))
		w.update(func(m *lifecycle.Memory) {
			m.Pulls[a.Container] = lifecycle.Pull{Image: a.Image, Attempt: a.Attempt, ImageID: img.ID}
		})
	})
}

// pulls has each image pulled once at a time, whoever asks. The zero value works.
type pulls struct {
	mu      sync.Mutex // guards running
	running map[string]*pull
}

type pull struct {
	done chan struct{}
	img  podruntime.Image
	err  error
}

// do pulls, or waits for who pulls the same with the same credentials already.
func (ps *pulls) do(ctx context.Context, rt podruntime.Images, ref string, creds []podruntime.Credential) (podruntime.Image, error) {
	key := fmt.Sprintf("%q %q", ref, creds)
	ps.mu.Lock()
	p, ok := ps.running[key]
	if !ok {
		p = &pull{done: make(chan struct{})}
		if ps.running == nil {
			ps.running = map[string]*pull{}
		}
		ps.running[key] = p
		// The one who asks first may go away; the others still want the image.
		go func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, pullTimeout)
			defer cancel()
			p.img, p.err = rt.PullImage(ctx, ref, creds)
			ps.mu.Lock()
			delete(ps.running, key)
			ps.mu.Unlock()
			close(p.done)
		}(context.WithoutCancel(ctx))
	}
	ps.mu.Unlock()
	select {
	case <-p.done:
		return p.img, p.err
	case <-ctx.Done():
		return podruntime.Image{}, context.Cause(ctx)
	}
}

// dockerConfig is what a Secret of type kubernetes.io/dockerconfigjson holds.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// credentials are those of the pod's imagePullSecrets that are for the image's registry, in order.
func (k *Kubelet) credentials(p *corev1.Pod, image string) []podruntime.Credential {
	host := registry(image)
	var out []podruntime.Credential
	for _, ref := range p.Spec.ImagePullSecrets {
		s, ok := cache.Get[corev1.Secret](k.cache.Snapshot(), p.Namespace, ref.Name)
		if !ok {
			continue
		}
		var c dockerConfig
		if err := json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &c); err != nil {
			if err := json.Unmarshal(s.Data[corev1.DockerConfigKey], &c.Auths); err != nil {
				continue // the pull says that it was refused
			}
		}
		for name, a := range c.Auths {
			if registryOf(name) == host {
				out = append(out, a.credential())
			}
		}
	}
	return out
}

func (a dockerAuth) credential() podruntime.Credential {
	c := podruntime.Credential{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if b, err := base64.StdEncoding.DecodeString(a.Auth); err == nil && c.Username == "" {
		c.Username, c.Password, _ = strings.Cut(string(b), ":")
	}
	return c
}

// registry is the host that an image is pulled from.
func registry(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return ""
	}
	return reference.Domain(named)
}

// registryOf is the host of a key of a docker config: "https://index.docker.io/v1/", "registry:5000".
func registryOf(key string) string {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	host, _, _ := strings.Cut(key, "/")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}
