// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// SpecHash is of what in a container's spec may change while the pod lives and needs another container then.
func SpecHash(c *corev1.Container) string {
	b, _ := json.Marshal([]string{c.Name, c.Image}) // two strings always encode
	h := fnv.New64a()
	h.Write(b)
	return strconv.FormatUint(h.Sum64(), 16)
}

// Why a container waits, when its image is the reason.
const (
	ErrImagePull      = "ErrImagePull"
	ImagePullBackOff  = "ImagePullBackOff"
	ErrImageNeverPull = "ErrImageNeverPull"
	InvalidImageName  = "InvalidImageName"
)

// start begins the run after prev: first its image, then the container.
func start(s *State, p *Plan, m *member, prev *podruntime.Container) {
	name, attempt := m.spec.Name, m.nextAttempt()
	pull, ok := s.Pulls[name]
	if !ok || pull.Attempt != attempt || pull.Image != m.spec.Image {
		p.do(LookForImage{m.kind, name, m.spec.Image, attempt})
		return
	}
	if pull.ImageID == "" || pull.Fault != nil {
		image(s, p, m, pull)
		return
	}
	if f, ok := s.Faults[name]; ok && s.Now.Before(f.Retry) {
		p.by(s.Now, f.Retry)
		return
	}
	p.do(StartContainer{Kind: m.kind, Container: name, ImageID: pull.ImageID, Attempt: attempt, Backoff: nextBackoff(prev)})
}

// image gets a container's image to the node.
func image(s *State, p *Plan, m *member, pull Pull) {
	switch {
	case pull.Running:
	case pull.Fault != nil && !s.Now.Before(pull.Fault.Retry):
		p.do(LookForImage{m.kind, m.spec.Name, m.spec.Image, pull.Attempt}) // it may have been loaded meanwhile
	case pull.Fault != nil:
		p.by(s.Now, pull.Fault.Retry)
		if flip := pull.Fault.At.Add(faultShown); s.Now.Before(flip) {
			p.by(s.Now, flip)
		} else if pull.Fault.Reason == ErrImagePull {
			p.do(s.once(pullBackoffEvents(m, pull)...)...)
		}
	case m.spec.ImagePullPolicy == corev1.PullNever:
		p.do(FailImage{m.spec.Name, m.spec.Image, fmt.Sprintf("Container image %q is not present with pull policy of Never", m.spec.Image)})
	default:
		p.do(PullImage{m.kind, m.spec.Name, m.spec.Image, pull.Attempt})
	}
}

func pullBackoffEvents(m *member, pull Pull) []Event {
	key := fmt.Sprintf("%s/%s/%d", m.spec.Name, m.spec.Image, pull.Fault.At.UnixNano())
	return []Event{
		{Key: "imagebackoff/" + key, Type: corev1.EventTypeNormal, Reason: "BackOff", Container: m.spec.Name,
			Message: fmt.Sprintf("Back-off pulling image %q", m.spec.Image)},
		{Key: "imageerror/" + key, Type: corev1.EventTypeWarning, Reason: "Failed", Container: m.spec.Name, Message: "Error: " + ImagePullBackOff},
	}
}

// faultShown is how long the error of a pull is shown before the back-off is.
const faultShown = 2 * time.Second

// NeedsPull says whether an image that is in the store is good enough.
func NeedsPull(policy corev1.PullPolicy, present, local bool) bool {
	if policy == corev1.PullAlways {
		return !(present && local)
	}
	return !present
}
