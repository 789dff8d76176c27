// SPDX-License-Identifier: Apache-2.0

package test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// worker drives the daemon through the Docker API with things of its own, and writes down what was acknowledged.
type worker struct {
	model model
	rand  *rand.Rand
	c     *client.Client
	n     int // texts and labels given so far
}

func newWorker(k int, seed uint64) *worker {
	w := &worker{model: model{}, rand: rand.New(rand.NewPCG(seed, uint64(k)))}
	for kind, n := range map[string]int{"c": 4, "i": 3, "v": 3, "n": 2} {
		for j := range n {
			w.model[fmt.Sprintf("w%d-%s%d", k, kind, j)] = &thing{}
		}
	}
	return w
}

// step does one thing. When it fails, what it was about stays unsure.
func (w *worker) step(ctx context.Context) error {
	steps := [...]func(context.Context) error{
		w.run, w.run, w.run, w.oneShot, w.oneShot, w.stop, w.start, w.remove, w.remove, w.commit, w.build, w.build,
		w.removeImage, w.createVolume, w.removeVolume, w.createNetwork, w.removeNetwork, w.connect, w.disconnect, w.exec,
	}
	return steps[w.rand.IntN(len(steps))](ctx)
}

// one picks a name of a kind for which ok holds; "" when there is none.
func (w *worker) one(kind string, ok func(name string, t *thing) bool) string {
	all := w.model.pick(kind, ok)
	if len(all) == 0 {
		return ""
	}
	return all[w.rand.IntN(len(all))]
}

func is(f fact) func(string, *thing) bool {
	return func(_ string, t *thing) bool { return t.there == f }
}

func (w *worker) unused(name string, t *thing) bool { return t.there == present && !w.model.used(name) }

// text is new each time.
func (w *worker) text() string {
	w.n++
	return "text " + strconv.Itoa(w.n)
}

// ask notes that a fact of a thing is open, asks, and notes what was acknowledged.
func ask(f *fact, after fact, call func() error) error {
	*f = unsure
	if err := call(); err != nil {
		return err
	}
	*f = after
	return nil
}

// run creates a container with what there is, and starts it.
func (w *worker) run(ctx context.Context) error {
	name := w.one("c", is(absent))
	if name == "" {
		return nil
	}
	t := w.model[name]
	o := client.ContainerCreateOptions{Name: name, Config: &container.Config{Image: "payload", Cmd: []string{"sleep"}}, HostConfig: &container.HostConfig{}}
	*t = thing{linked: present}
	if i := w.one("i", is(present)); i != "" && w.rand.IntN(2) == 0 {
		o.Config.Image = i
		t.uses = append(t.uses, i)
	}
	if v := w.one("v", is(present)); v != "" && w.rand.IntN(2) == 0 {
		o.HostConfig.Binds = []string{v + ":/data"}
		t.uses = append(t.uses, v)
	}
	if n := w.one("n", is(present)); n != "" && w.rand.IntN(2) == 0 {
		o.HostConfig.NetworkMode = container.NetworkMode(n)
		t.uses, t.networks = append(t.uses, n), []string{n}
	}
	if w.rand.IntN(3) == 0 {
		o.HostConfig.PortBindings = network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1")}}}
	}
	if err := ask(&t.there, present, func() error { _, err := w.c.ContainerCreate(ctx, o); return err }); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return w.startOne(ctx, name)
}

func (w *worker) startOne(ctx context.Context, name string) error {
	t := w.model[name]
	t.pid = 0
	if err := ask(&t.running, present, func() error {
		_, err := w.c.ContainerStart(ctx, name, client.ContainerStartOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}

func (w *worker) start(ctx context.Context) error {
	name := w.one("c", func(_ string, t *thing) bool { return t.there == present && t.running == absent })
	if name == "" {
		return nil
	}
	return w.startOne(ctx, name)
}

func (w *worker) running(_ string, t *thing) bool { return t.there == present && t.running == present }

func (w *worker) stop(ctx context.Context) error {
	name := w.one("c", w.running)
	if name == "" {
		return nil
	}
	t := w.model[name]
	t.pid = 0
	if err := ask(&t.running, absent, func() error {
		_, err := w.c.ContainerStop(ctx, name, client.ContainerStopOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	return nil
}

func (w *worker) remove(ctx context.Context) error {
	name := w.one("c", is(present))
	if name == "" {
		return nil
	}
	t := w.model[name]
	t.running, t.pid = unsure, 0
	if err := ask(&t.there, absent, func() error {
		_, err := w.c.ContainerRemove(ctx, name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		return err
	}); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	t.reset()
	return nil
}

// oneShot is run --rm: it writes a text into a volume.
func (w *worker) oneShot(ctx context.Context) error {
	name, v := w.one("c", is(absent)), w.one("v", is(present))
	if name == "" || v == "" {
		return nil
	}
	t, text := w.model[name], w.text()
	*t = thing{there: unsure, running: unsure, linked: present, passing: true, uses: []string{v}}
	w.model[v].content = ""
	_, err := w.c.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name, Config: &container.Config{Image: "payload", Cmd: []string{"write", "/data/text", text}},
		HostConfig: &container.HostConfig{Binds: []string{v + ":/data"}, AutoRemove: true, NetworkMode: "none"},
	})
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	done := w.c.ContainerWait(ctx, name, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	if _, err := w.c.ContainerStart(ctx, name, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	select {
	case r := <-done.Result:
		if r.StatusCode != 0 || r.Error != nil {
			return fmt.Errorf("%s ended with %d %v", name, r.StatusCode, r.Error)
		}
	case err := <-done.Error:
		return fmt.Errorf("wait for %s: %w", name, err)
	}
	t.reset()
	w.model[v].content = text
	return nil
}

func (w *worker) exec(ctx context.Context) error {
	name := w.one("c", w.running)
	if name == "" {
		return nil
	}
	e, err := w.c.ExecCreate(ctx, name, client.ExecCreateOptions{Cmd: []string{"/payload", "write", "/file", w.text()}})
	if err != nil {
		return fmt.Errorf("exec in %s: %w", name, err)
	}
	if _, err := w.c.ExecStart(ctx, e.ID, client.ExecStartOptions{Detach: true}); err != nil {
		return fmt.Errorf("start exec in %s: %w", name, err)
	}
	return nil
}

// newImage makes an absent image by call, which is given its name and its label.
func (w *worker) newImage(call func(name, label string) error) error {
	name, label := w.one("i", is(absent)), w.text()
	if name == "" {
		return nil
	}
	t := w.model[name]
	t.content = label
	if err := ask(&t.there, present, func() error { return call(name, label) }); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	return nil
}

func (w *worker) commit(ctx context.Context) error {
	from := w.one("c", is(present))
	if from == "" {
		return nil
	}
	return w.newImage(func(name, label string) error {
		_, err := w.c.ContainerCommit(ctx, from, client.ContainerCommitOptions{Reference: name, Changes: []string{`LABEL round="` + label + `"`}})
		return err
	})
}

func (w *worker) build(ctx context.Context) error {
	return w.newImage(func(name, label string) error {
		dockerfile := fmt.Sprintf("FROM payload\nLABEL round=%q\nCOPY file /file\nRUN [\"/payload\", \"write\", \"/made\", %q]\n", label, label)
		var b bytes.Buffer
		out := tar.NewWriter(&b)
		for file, text := range map[string]string{"Dockerfile": dockerfile, "file": label} {
			if err := errors.Join(out.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(text))}), second(out.Write([]byte(text)))); err != nil {
				return err
			}
		}
		if err := out.Close(); err != nil {
			return err
		}
		r, err := w.c.ImageBuild(ctx, &b, client.ImageBuildOptions{Tags: []string{name}, Remove: true})
		if err != nil {
			return err
		}
		defer r.Body.Close()
		return builtID(r.Body)
	})
}

func second(_ int, err error) error { return err }

// builtID reads a build's answer to its end: only then is it acknowledged, by the image's ID.
func builtID(r io.Reader) error {
	id := ""
	for d := json.NewDecoder(r); ; {
		var m struct {
			Error string
			Aux   struct{ ID string }
		}
		err := d.Decode(&m)
		switch {
		case errors.Is(err, io.EOF) && id != "":
			return nil
		case err != nil:
			return fmt.Errorf("the build's answer breaks off: %w", err)
		case m.Error != "":
			return errors.New(m.Error)
		}
		id = max(id, m.Aux.ID)
	}
}

func (w *worker) removeImage(ctx context.Context) error {
	return w.removeOne("i", func(name string) error {
		_, err := w.c.ImageRemove(ctx, name, client.ImageRemoveOptions{})
		return err
	})
}

// removeOne removes something that no container needs.
func (w *worker) removeOne(kind string, call func(name string) error) error {
	name := w.one(kind, w.unused)
	if name == "" {
		return nil
	}
	t := w.model[name]
	if err := ask(&t.there, absent, func() error { return call(name) }); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	t.reset()
	return nil
}

// createOne creates something that is not there.
func (w *worker) createOne(kind string, call func(name string) error) error {
	name := w.one(kind, is(absent))
	if name == "" {
		return nil
	}
	if err := ask(&w.model[name].there, present, func() error { return call(name) }); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return nil
}

func (w *worker) createVolume(ctx context.Context) error {
	return w.createOne("v", func(name string) error {
		_, err := w.c.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name})
		return err
	})
}

func (w *worker) removeVolume(ctx context.Context) error {
	return w.removeOne("v", func(name string) error {
		_, err := w.c.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
		return err
	})
}

func (w *worker) createNetwork(ctx context.Context) error {
	return w.createOne("n", func(name string) error {
		_, err := w.c.NetworkCreate(ctx, name, client.NetworkCreateOptions{Driver: "bridge"})
		return err
	})
}

func (w *worker) removeNetwork(ctx context.Context) error {
	return w.removeOne("n", func(name string) error {
		_, err := w.c.NetworkRemove(ctx, name, client.NetworkRemoveOptions{})
		return err
	})
}

// connect joins a running container that has a network stack of ours to one network more.
func (w *worker) connect(ctx context.Context) error {
	n, name := w.one("n", is(present)), w.one("c", w.running)
	if n == "" || name == "" || slices.Contains(w.model[name].networks, n) {
		return nil
	}
	t := w.model[name]
	t.uses = append(t.uses, n)
	if err := ask(&t.linked, present, func() error {
		_, err := w.c.NetworkConnect(ctx, n, client.NetworkConnectOptions{Container: name})
		return err
	}); err != nil {
		return fmt.Errorf("connect %s to %s: %w", name, n, err)
	}
	t.networks = append(t.networks, n)
	slices.Sort(t.networks)
	return nil
}

func (w *worker) disconnect(ctx context.Context) error {
	name := w.one("c", func(_ string, t *thing) bool { return w.running("", t) && len(t.networks) > 0 })
	if name == "" {
		return nil
	}
	t := w.model[name]
	n := t.networks[0]
	if err := ask(&t.linked, present, func() error {
		_, err := w.c.NetworkDisconnect(ctx, n, client.NetworkDisconnectOptions{Container: name})
		return err
	}); err != nil {
		return fmt.Errorf("disconnect %s from %s: %w", name, n, err)
	}
	gone := func(s string) bool { return s == n }
	t.networks, t.uses = slices.DeleteFunc(t.networks, gone), slices.DeleteFunc(t.uses, gone)
	return nil
}
