// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// healthFlags and the like are the parts of containerFlags that few command lines use.
type healthFlags struct {
	healthCmd                                  string
	healthInterval, healthTimeout, healthStart time.Duration
	healthRetries                              int
	noHealth                                   bool
}

type logFlags struct {
	logDriver string
	logOpt    []string
}

func (c *containerFlags) setHealth(o *client.ContainerCreateOptions) error {
	h := &container.HealthConfig{Interval: c.healthInterval, Timeout: c.healthTimeout, StartPeriod: c.healthStart, Retries: c.healthRetries}
	switch {
	case c.noHealth && c.healthCmd != "":
		return fmt.Errorf("--no-healthcheck and --health-cmd exclude each other")
	case c.noHealth:
		h.Test = []string{"NONE"}
	case c.healthCmd != "":
		h.Test = []string{"CMD-SHELL", c.healthCmd}
	case h.Interval == 0 && h.Timeout == 0 && h.StartPeriod == 0 && h.Retries == 0:
		return nil
	}
	o.Config.Healthcheck = h
	return nil
}

func (c *containerFlags) setLog(o *client.ContainerCreateOptions) error {
	opts, err := keyValues("--log-opt", c.logOpt)
	o.HostConfig.LogConfig = container.LogConfig{Type: c.logDriver, Config: opts}
	return err
}

func (c *containerFlags) setPlatform(o *client.ContainerCreateOptions) error {
	for _, e := range c.expose {
		p, err := network.ParsePort(e)
		if err != nil {
			return fmt.Errorf("--expose %q: want PORT[/udp]", e)
		}
		o.Config.ExposedPorts[p] = struct{}{}
	}
	if c.platform == "" {
		return nil
	}
	parts := strings.SplitN(c.platform, "/", 3)
	if len(parts) < 2 {
		return fmt.Errorf("--platform %q: want OS/ARCHITECTURE, like linux/arm64", c.platform)
	}
	o.Platform = &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		o.Platform.Variant = parts[2]
	}
	return nil
}

func (c *containerFlags) checkPull(*client.ContainerCreateOptions) error {
	switch c.pull {
	case "missing", "always", "never":
		return nil
	}
	return fmt.Errorf("--pull %q: want missing, always or never", c.pull)
}
