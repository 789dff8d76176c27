// SPDX-License-Identifier: Apache-2.0

// Package probe asks containers how they are: exec, httpGet, tcpSocket and grpc checks, and the loop that turns answers
// into results by thresholds. Lifecycle hooks use the same handlers.
//
// Containers are hostile: an answer is read up to 10 KiB, a redirect is followed only to the same host, nothing outlives
// its timeout. The pod's address is dialled from the node's network namespace.
//
// It keeps no state; Run is one goroutine's loop, which the caller starts and ends by its context.
package probe

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// Execer runs a command in a container.
type Execer interface {
	Exec(ctx context.Context, id string, spec podruntime.ExecSpec, s podruntime.Stdio) (exitCode int, err error)
}

// Target is the container that is asked.
type Target struct {
	Container *corev1.Container
	ID        string // in the runtime
	IP        string // of the pod, "" if it has none yet
}

// Result is an answer.
type Result struct {
	OK      bool
	Message string // why not
}

// Check asks once. The caller bounds it in time by ctx.
func Check(ctx context.Context, ex Execer, t Target, h *corev1.ProbeHandler) Result {
	switch {
	case h.Exec != nil:
		return execCheck(ctx, ex, t, h.Exec.Command)
	case h.HTTPGet != nil:
		return httpCheck(ctx, t, h.HTTPGet)
	case h.TCPSocket != nil:
		return tcpCheck(ctx, t, h.TCPSocket)
	case h.GRPC != nil:
		return grpcCheck(ctx, t, h.GRPC)
	}
	return Result{Message: "the probe has no handler"}
}

// Run asks period after period until ctx ends. report is called with every answer; settled says that the threshold is
// reached: so many answers of the same sort in a row.
func Run(ctx context.Context, ex Execer, t Target, p *corev1.Probe, started time.Time, report func(r Result, settled bool)) {
	timer := time.NewTimer(time.Until(started.Add(seconds(p.InitialDelaySeconds, 0))))
	defer timer.Stop()
	row, last := int32(0), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		r := once(ctx, ex, t, p)
		if ctx.Err() != nil {
			return
		}
		if row++; r.OK != last {
			row, last = 1, r.OK
		}
		report(r, row >= threshold(p, r.OK))
		timer.Reset(max(seconds(p.PeriodSeconds, 10)-time.Since(began), 10*time.Millisecond))
	}
}

func once(ctx context.Context, ex Execer, t Target, p *corev1.Probe) Result {
	ctx, cancel := context.WithTimeout(ctx, seconds(p.TimeoutSeconds, 1))
	defer cancel()
	return Check(ctx, ex, t, &p.ProbeHandler)
}

func threshold(p *corev1.Probe, ok bool) int32 {
	n, def := p.FailureThreshold, int32(3)
	if ok {
		n, def = p.SuccessThreshold, 1
	}
	if n <= 0 {
		return def
	}
	return n
}

func seconds(n, def int32) time.Duration {
	if n <= 0 {
		n = def
	}
	return time.Duration(n) * time.Second
}

// port resolves a number or the name of a port of the container.
func port(c *corev1.Container, p intstr.IntOrString) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String && n == 0 {
		for _, cp := range c.Ports {
			if cp.Name == p.StrVal {
				n = int(cp.ContainerPort)
			}
		}
		if n == 0 {
			return 0, fmt.Errorf("container %s has no port named %q", c.Name, p.StrVal)
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("port %s is not between 1 and 65535", p.String())
	}
	return n, nil
}
