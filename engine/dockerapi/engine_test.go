// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	dcontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestEngine(t *testing.T) {
	d := startDaemon(t)

	t.Run("the life of a container shows in events", func(t *testing.T) {
		since := time.Now()
		id := d.create(dcontainer.Config{Cmd: []string{"exit", "3"}}, &dcontainer.HostConfig{NetworkMode: "none", AutoRemove: true})
		wait := d.ContainerWait(t.Context(), id, client.ContainerWaitOptions{Condition: dcontainer.WaitConditionRemoved})
		d.start(id)
		select {
		case r := <-wait.Result:
			if r.StatusCode != 3 || r.Error != nil {
				t.Errorf("exit: %+v", r)
			}
		case err := <-wait.Error:
			t.Fatal(err)
		}
		stream := d.Events(t.Context(), client.EventsListOptions{
			Since: strconv.FormatInt(since.Unix(), 10), Until: strconv.FormatInt(time.Now().Unix()+1, 10), Filters: client.Filters{}.Add("container", id),
		})
		var seen []string
		for open := true; open; {
			select {
			case m := <-stream.Messages:
				seen = append(seen, string(m.Action))
			case <-stream.Err:
				open = false
			}
		}
		if got := strings.Join(seen, " "); got != "create start die destroy" {
			t.Errorf("events: %s", got)
		}
	})

	t.Run("the same step is built once", func(t *testing.T) {
		const file = "FROM payload\nLABEL a=b\nRUN [\"/payload\", \"write\", \"/made\", \"x\"]\nCMD [\"cat\", \"/made\"]\n"
		if first := d.build("made", file); !strings.Contains(first, "Successfully tagged made:latest") {
			t.Fatalf("build said %q", first)
		}
		if again := d.build("made", file); strings.Count(again, "Using cache") != 3 {
			t.Errorf("the second build said %q", again)
		}
		if broken := d.build("broken", "FROM payload\nRUN [\"/payload\", \"exit\", \"4\"]\n"); !strings.Contains(broken, "returned a non-zero code: 4") {
			t.Errorf("a failing step said %q", broken)
		}
	})

	t.Run("errors are dockerd's", func(t *testing.T) {
		d.create(dcontainer.Config{Cmd: []string{"wait"}}, nil)
		name := func(n string) error {
			_, err := d.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: n, Config: &dcontainer.Config{Image: "payload"}, HostConfig: &dcontainer.HostConfig{NetworkMode: "none"}})
			return err
		}
		if err := name("taken"); err != nil {
			t.Fatal(err)
		}
		_, missing := d.ContainerInspect(t.Context(), "nosuch", client.ContainerInspectOptions{})
		_, image := d.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &dcontainer.Config{Image: "nosuch"}})
		_, volume := d.VolumeInspect(t.Context(), "nosuch", client.VolumeInspectOptions{})
		_, network := d.NetworkInspect(t.Context(), "nosuch", client.NetworkInspectOptions{})
		for want, err := range map[string]error{
			"No such container: nosuch": missing, "No such image: nosuch": image, "no such volume": volume, "network nosuch not found": network,
			`name "/taken" is already in use`: name("taken"), "Invalid container name": name("a/b"),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
		}
	})

	t.Run("a program that cannot run is 127, told once", func(t *testing.T) {
		id := d.create(dcontainer.Config{Entrypoint: []string{"/missing"}}, &dcontainer.HostConfig{NetworkMode: "none", AutoRemove: true})
		wait := d.ContainerWait(t.Context(), id, client.ContainerWaitOptions{Condition: dcontainer.WaitConditionRemoved})
		_, err := d.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
		if err == nil || !strings.Contains(err.Error(), "/missing") || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("start: %v", err)
		}
		if r := <-wait.Result; r.StatusCode != 127 || r.Error != nil {
			t.Errorf("wait: %+v", r)
		}
	})

	t.Run("commit and its changes", func(t *testing.T) {
		id := d.create(dcontainer.Config{Cmd: []string{"write", "/note", "text"}}, nil)
		wait := d.ContainerWait(t.Context(), id, client.ContainerWaitOptions{Condition: dcontainer.WaitConditionNextExit})
		d.start(id)
		<-wait.Result
		if _, err := d.ContainerCommit(t.Context(), id, client.ContainerCommitOptions{Reference: "noted", Changes: []string{`CMD ["cat", "/note"]`, "ENV A=b"}}); err != nil {
			t.Fatal(err)
		}
		img, err := d.ImageInspect(t.Context(), "noted")
		if err != nil || strings.Join(img.Config.Cmd, " ") != "cat /note" || !strings.Contains(strings.Join(img.Config.Env, " "), "A=b") {
			t.Errorf("config: %+v, %v", img.Config, err)
		}
		if _, err := d.ContainerCommit(t.Context(), id, client.ContainerCommitOptions{Changes: []string{"RUN x"}}); err == nil {
			t.Error("RUN was taken as a change")
		}
	})

	t.Run("push and pull meet a registry", func(t *testing.T) {
		reg := httptest.NewServer(registry.New())
		defer reg.Close()
		ref := strings.TrimPrefix(reg.URL, "http://") + "/some/payload:1"
		if _, err := d.ImageTag(t.Context(), client.ImageTagOptions{Source: "payload", Target: ref}); err != nil {
			t.Fatal(err)
		}
		push, err := d.ImagePush(t.Context(), ref, client.ImagePushOptions{RegistryAuth: "e30="})
		if err != nil {
			t.Fatal(err)
		}
		if err := push.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.ImageRemove(t.Context(), ref, client.ImageRemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		pull, err := d.ImagePull(t.Context(), ref, client.ImagePullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := pull.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.ImageInspect(t.Context(), ref); err != nil {
			t.Error(err)
		}
	})

	t.Run("disk usage counts", func(t *testing.T) {
		u, err := d.DiskUsage(t.Context(), client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, Verbose: true})
		if err != nil || u.Images.TotalCount == 0 || u.Images.TotalSize == 0 || u.Containers.TotalCount == 0 {
			t.Errorf("usage %+v, %v", u, err)
		}
	})
}
