// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/moby/moby/api/types/container"
)

func healthCheck(c *container.Config) {
	c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "/web", "get", "http://127.0.0.1/healthz"}, Interval: 100 * time.Millisecond}
}
