// SPDX-License-Identifier: Apache-2.0

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/client"
)

// fact is what the answers of the daemon let one believe of a thing.
type fact int

const (
	absent  fact = iota // never asked for, or its removal was acknowledged
	present             // its creation was acknowledged
	unsure              // the daemon died before it answered: either is right
)

// thing is what a worker knows of one container, image, volume or network that only it touches.
type thing struct {
	there fact
	// Of a container:
	running  fact
	pid      int      // as seen after the last restart, while nothing was asked of it since; 0: not known
	uses     []string // images, volumes and networks, for which it must stay
	networks []string // those of uses that are networks
	linked   fact     // unsure: a connect or disconnect was not answered
	passing  bool     // run --rm: when it is there, it goes by itself at some time
	// Of an image its label, of a volume the text of its file; "" is not known.
	content string
}

// model is all that one worker did, by name. The name's second part begins with the letter of the kind: w3-c0 is a container.
type model map[string]*thing

func kindOf(name string) string {
	_, rest, _ := strings.Cut(name, "-")
	return rest[:1]
}

func (t *thing) reset() { *t = thing{} }

func isGone(err error) bool { return err != nil && strings.Contains(err.Error(), "No such container") }

// pick answers the names of a kind for which ok holds, in order.
func (m model) pick(kind string, ok func(name string, t *thing) bool) []string {
	var out []string
	for name, t := range m {
		if kindOf(name) == kind && ok(name, t) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// used says whether a container that may be there needs name.
func (m model) used(name string) bool {
	for _, t := range m {
		if t.there != absent && slices.Contains(t.uses, name) {
			return true
		}
	}
	return false
}

// world is what the daemon says there is.
type world struct {
	containers map[string]seen
	images     map[string]string // name to label
	volumes    map[string]string // name to folder
	networks   map[string]bool
}

type seen struct {
	running  bool
	pid      int
	networks []string
}

// look asks the daemon for everything.
func look(ctx context.Context, c *client.Client) (world, error) {
	w := world{map[string]seen{}, map[string]string{}, map[string]string{}, map[string]bool{}}
	containers, err := c.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return w, err
	}
	for _, s := range containers.Items {
		got, err := c.ContainerInspect(ctx, s.ID, client.ContainerInspectOptions{})
		if isGone(err) { // --rm, meanwhile
			continue
		} else if err != nil {
			return w, err
		}
		it := seen{running: got.Container.State.Running, pid: got.Container.State.Pid}
		for name := range got.Container.NetworkSettings.Networks {
			it.networks = append(it.networks, name)
		}
		slices.Sort(it.networks)
		w.containers[strings.TrimPrefix(got.Container.Name, "/")] = it
	}
	images, err := c.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return w, err
	}
	for _, s := range images.Items {
		for _, tag := range s.RepoTags {
			w.images[strings.TrimSuffix(tag, ":latest")] = s.Labels["round"]
		}
	}
	volumes, err := c.VolumeList(ctx, client.VolumeListOptions{})
	if err != nil {
		return w, err
	}
	for _, v := range volumes.Items {
		w.volumes[v.Name] = v.Mountpoint
	}
	networks, err := c.NetworkList(ctx, client.NetworkListOptions{})
	for _, n := range networks.Items {
		w.networks[n.Name] = true
	}
	return w, err
}

// settle compares the model with what is there, says each difference that no crash explains, and takes over what was unsure.
func (m model) settle(w world) []string {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for name, t := range m {
		is := map[string]bool{}
		switch kindOf(name) {
		case "c":
			_, is[name] = w.containers[name]
		case "i":
			_, is[name] = w.images[name]
		case "v":
			_, is[name] = w.volumes[name]
		case "n":
			is[name] = w.networks[name]
		}
		switch {
		case t.there == present && !is[name]:
			bad("%s was acknowledged and is lost", name)
		case t.there == absent && is[name]:
			bad("the removal of %s was acknowledged, and it is there", name)
		}
		if !is[name] {
			t.reset()
			continue
		}
		if t.passing {
			continue
		}
		t.there = present
		switch kindOf(name) {
		case "c":
			t.settleContainer(name, w.containers[name], bad)
		case "i":
			if got := w.images[name]; t.content != "" && got != t.content {
				bad("image %s has the label %q, want %q", name, got, t.content)
			}
		case "v":
			if got, err := os.ReadFile(filepath.Join(w.volumes[name], "text")); t.content != "" && string(got) != t.content+"\n" {
				bad("volume %s holds %q (%v), want %q", name, got, err, t.content)
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

func (t *thing) settleContainer(name string, is seen, bad func(string, ...any)) {
	switch {
	case t.running == present && !is.running:
		bad("container %s ran and does not any more", name)
	case t.running == absent && is.running:
		bad("container %s was stopped and runs", name)
	case t.pid != 0 && is.pid != t.pid:
		bad("container %s had the process %d and has %d", name, t.pid, is.pid)
	}
	t.running, t.pid = absent, 0
	if is.running {
		t.running, t.pid = present, is.pid
	}
	own := slices.DeleteFunc(slices.Clone(is.networks), func(n string) bool { return n == "bridge" || n == "none" })
	if t.linked == present && !slices.Equal(own, t.networks) {
		bad("container %s is on the networks %v, want %v", name, own, t.networks)
	}
	t.uses = append(slices.DeleteFunc(t.uses, func(n string) bool { return kindOf(n) == "n" }), own...)
	t.networks, t.linked = own, present
}
