// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	dcontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
)

func TestPsFilters(t *testing.T) {
	s := &Server{}
	c := container.Container{ID: "abc", State: container.Exited, ExitCode: 3, StartedAt: time.Unix(1, 0), Spec: container.Spec{Name: "web-1", Annotations: map[string]string{"a": "b"}}}
	c.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	c.Spec.Network.Ports = []container.Port{{ContainerPort: 80, HostPort: 9000, Protocol: "tcp"}}
	c.MountPoints = []container.MountPoint{{Type: "volume", Name: "vol", Target: "/data"}}
	for _, tc := range []struct {
		f    filters
		want bool
	}{
		{nil, true},
		{filters{"name": {"web"}}, true}, {filters{"name": {"^/web-1$"}}, true}, {filters{"name": {"^web-1$"}}, true}, {filters{"name": {"eb$"}}, false}, {filters{"name": {"("}}, false},
		{filters{"id": {"ab"}}, true}, {filters{"id": {"bc"}}, false},
		{filters{"status": {"exited"}}, true}, {filters{"status": {"running", "created"}}, false},
		{filters{"exited": {"0", "3"}}, true}, {filters{"exited": {"0"}}, false},
		{filters{"health": {"none"}}, true}, {filters{"health": {"healthy"}}, false}, {filters{"is-task": {"true"}}, false},
		{filters{"publish": {"80"}}, true}, {filters{"publish": {"70-90/tcp"}}, true}, {filters{"publish": {"80/udp"}}, false},
		{filters{"expose": {"8000-9000"}}, true}, {filters{"expose": {"80"}}, false},
		{filters{"volume": {"vol"}}, true}, {filters{"volume": {"/data/"}}, true}, {filters{"volume": {"/other"}}, false},
		{filters{"annotation": {"a=b"}}, true}, {filters{"annotation": {"c"}}, false},
	} {
		passes, err := s.psFilter(tc.f)
		if err != nil || passes(c) != tc.want {
			t.Errorf("%v: want %v (%v)", tc.f, tc.want, err)
		}
	}
	for _, f := range []filters{{"status": {"odd"}}, {"health": {"odd"}}, {"exited": {"x"}}, {"publish": {"x"}}, {"expose": {"9-8"}}} {
		if _, err := s.psFilter(f); err == nil {
			t.Errorf("%v is taken", f)
		}
	}
}

func TestBuiltOn(t *testing.T) {
	made := func(steps ...string) (i image.Image) {
		for _, s := range steps {
			i.Config.History = append(i.Config.History, ocispec.History{CreatedBy: s})
			i.Layers = append(i.Layers, digest.FromString(s))
		}
		return i
	}
	root := made("a", "b")
	if !builtOn(made("a", "b", "c"), root) || builtOn(made("a", "c"), root) || builtOn(made("a"), root) || builtOn(root, image.Image{}) {
		t.Error("an image is built on what its history begins with, and on nothing else")
	}
}

func TestInspectGivesTheRequestBack(t *testing.T) {
	h := &dcontainer.HostConfig{Binds: []string{"vol:/data:ro"}, Links: []string{"a:b"}, VolumesFrom: []string{"x"}, ContainerIDFile: "/f"}
	data, err := keep(dcontainer.CreateRequest{Config: &dcontainer.Config{AttachStdin: true}, HostConfig: h})
	if err != nil {
		t.Fatal(err)
	}
	c := container.Container{Spec: container.Spec{Request: data, Resources: container.Resources{Memory: 5}, Restart: container.RestartPolicy{Name: "always"}}}
	got := askedHostConfig(c)
	if len(got.Binds) != 1 || len(got.Links) != 1 || got.ContainerIDFile != "/f" || got.Memory != 5 || got.RestartPolicy.Name != "always" || got.LogConfig.Type != "json-file" {
		t.Errorf("%+v", got)
	}
	if !configOf(c).AttachStdin || configOf(c).AttachStdout {
		t.Error("the attached streams are not those of the request")
	}
	c.Spec.Request = []byte("{")
	if askedHostConfig(c).Memory != 5 {
		t.Error("an unreadable request hides what the engine knows")
	}
}
