// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"errors"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/blkiodev"
	dcontainer "github.com/moby/moby/api/types/container"
)

func TestConflicts(t *testing.T) {
	long := -2
	for _, c := range []struct {
		c    dcontainer.Config
		h    dcontainer.HostConfig
		want string // "" = none
	}{
		{want: ""},
		{dcontainer.Config{Hostname: "a"}, dcontainer.HostConfig{UTSMode: "host"}, "hostname and the UTS mode"},
		{dcontainer.Config{Hostname: "a"}, dcontainer.HostConfig{NetworkMode: "container:x"}, "hostname and the network mode"},
		{dcontainer.Config{Hostname: "a"}, dcontainer.HostConfig{NetworkMode: "host"}, ""},
		{dcontainer.Config{}, dcontainer.HostConfig{NetworkMode: "container:x", ExtraHosts: []string{"a:1.2.3.4"}}, "custom host-to-IP mapping"},
		{dcontainer.Config{}, dcontainer.HostConfig{NetworkMode: "container:x", PublishAllPorts: true}, "port publishing"},
		{dcontainer.Config{WorkingDir: "a"}, dcontainer.HostConfig{}, "'a' is invalid, it needs to be an absolute path"},
		{dcontainer.Config{StopTimeout: &long}, dcontainer.HostConfig{}, "stop timeout -2"},
		{dcontainer.Config{}, dcontainer.HostConfig{ShmSize: -1}, "SHM size"},
		{dcontainer.Config{}, dcontainer.HostConfig{Tmpfs: map[string]string{"/t": "size=1m,mode=700,exec", "/u": ""}}, ""},
		{dcontainer.Config{}, dcontainer.HostConfig{Tmpfs: map[string]string{"/t": "lowerdir=/"}}, "invalid tmpfs option"},
		{dcontainer.Config{}, dcontainer.HostConfig{Tmpfs: map[string]string{"/t": "size"}}, "invalid tmpfs option"},
	} {
		err := errors.Join(conflicts(&c.c, &c.h)...)
		if c.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v %+v: %v, want %q", c.c, c.h, err, c.want)
		}
	}
}

// Null entries of lists come from whoever writes JSON by hand.
func TestResourcesOfRefusesNulls(t *testing.T) {
	if _, err := resourcesOf(dcontainer.Resources{BlkioWeightDevice: []*blkiodev.WeightDevice{nil}}); err == nil {
		t.Error("a null weight device is taken")
	}
	if _, err := resourcesOf(dcontainer.Resources{Ulimits: []*dcontainer.Ulimit{nil}}); err == nil {
		t.Error("a null ulimit is taken")
	}
	if _, err := resourcesOf(dcontainer.Resources{DeviceRequests: []dcontainer.DeviceRequest{{Capabilities: [][]string{{"gpu"}}}}}); err == nil || !strings.Contains(err.Error(), "[[gpu]]") {
		t.Errorf("a GPU: %v", err)
	}
}
