// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/engine/oci"
	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func (c *call) ps() error {
	pids, err := c.runtime.Processes(c.args[0])
	if err != nil {
		return err
	}
	if c.opts.get("format", "f") == "json" {
		return printJSON(pids)
	}
	fmt.Printf("%-8s %-8s %-8s %s\n", "UID", "PID", "PPID", "CMD")
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue // it has just ended
		}
		cmd, _ := os.ReadFile(dir + "/cmdline")
		text := strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))
		if text == "" {
			text = "[" + statusField(string(status), "Name") + "]"
		}
		fmt.Printf("%-8s %-8d %-8s %s\n", statusField(string(status), "Uid"), pid, statusField(string(status), "PPid"), strconv.QuoteToGraphic(text)[1:len(strconv.QuoteToGraphic(text))-1])
	}
	return nil
}

// statusField is the first word of one line of /proc/<pid>/status.
func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			if f := strings.Fields(v); len(f) > 0 {
				return f[0]
			}
		}
	}
	return "?"
}

// features is the document of features-linux.md.
func (c *call) features() error {
	yes, no := true, false
	var namespaces, actions, operators []string
	for _, t := range []specs.LinuxNamespaceType{specs.CgroupNamespace, specs.IPCNamespace, specs.MountNamespace, specs.NetworkNamespace,
		specs.PIDNamespace, specs.TimeNamespace, specs.UserNamespace, specs.UTSNamespace} {
		namespaces = append(namespaces, string(t))
	}
	for _, a := range oci.SeccompActions() {
		actions = append(actions, string(a))
	}
	for _, o := range oci.SeccompOperators() {
		operators = append(operators, string(o))
	}
	enabled := func(b *bool) map[string]any { return map[string]any{"enabled": b} }
	return printJSON(map[string]any{
		"ociVersionMin": "1.0.0", "ociVersionMax": specs.Version,
		"hooks":        []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		"mountOptions": oci.MountOptions(),
		"linux": map[string]any{
			"namespaces": namespaces, "capabilities": oci.Capabilities(),
			"cgroup":   map[string]any{"v1": &yes, "v2": &yes, "systemd": &no, "systemdUser": &no, "rdma": &yes},
			"seccomp":  map[string]any{"enabled": &yes, "actions": actions, "operators": operators, "archs": oci.SeccompArchs(), "knownFlags": oci.SeccompFlags(), "supportedFlags": oci.SeccompFlags()},
			"apparmor": enabled(&no), "selinux": enabled(&no), "intelRdt": enabled(&no), "netDevices": enabled(&no),
			"mountExtensions": map[string]any{"idmap": enabled(&yes)},
		},
	})
}

func (c *call) noCheckpoint() error {
	return errs.New(errs.Unsupported, "checkpoint and restore are not supported: a restored process would have to be trusted with the host's mounts; stop the container and start it anew")
}

// event is one line of `events`, in runc's shape.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

func (c *call) events() error {
	id := c.args[0]
	st, err := c.runtime.State(id)
	if err != nil {
		return err
	}
	if st.Status == specs.StateStopped {
		return errs.New(errs.Conflict, "container %q is not running", id)
	}
	g, err := c.runtime.Group(id)
	if err != nil {
		return err
	}
	if c.opts.is("stats") {
		return printEvent("stats", id, g)
	}
	interval := 5 * time.Second
	if text := c.opts.get("interval"); text != "" {
		if interval, err = time.ParseDuration(text); err != nil || interval <= 0 {
			return errs.New(errs.Invalid, "--interval %q is no length of time", text)
		}
	}
	w, err := g.WatchOOM()
	if err != nil {
		return err
	}
	defer w.Close()
	out := make(chan struct{})
	go func() {
		defer close(out)
		for {
			if _, err := w.Next(); err != nil {
				return
			}
			out <- struct{}{}
		}
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case _, more := <-out:
			if !more {
				return nil // the group is gone
			}
			err = printLine(event{Type: "oom", ID: id})
		case <-tick.C:
			if st, stErr := c.runtime.State(id); errors.Is(stErr, errs.NotFound) || stErr == nil && st.Status == specs.StateStopped {
				return nil
			}
			err = printEvent("stats", id, g)
		}
		if err != nil {
			return err
		}
	}
}

func printEvent(kind, id string, g *cgroup.Cgroup) error {
	s, err := g.Stat()
	if err != nil {
		return err
	}
	return printLine(event{Type: kind, ID: id, Data: statsOf(s)})
}

// statsOf has the names and the nesting of runc's types.Stats, by which containerd's and others' readers know it.
func statsOf(s cgroup.Stat) map[string]any {
	type object = map[string]any
	unlimited := func(n uint64) uint64 { // the pids limit has 0 for none
		if n == math.MaxUint64 {
			return 0
		}
		return n
	}
	var bytes, ops []object
	for _, d := range s.IO {
		for _, e := range []struct {
			op         string
			size, many uint64
		}{{"Read", d.ReadBytes, d.ReadOps}, {"Write", d.WriteBytes, d.WriteOps}} {
			bytes = append(bytes, object{"major": d.Major, "minor": d.Minor, "op": e.op, "value": e.size})
			ops = append(ops, object{"major": d.Major, "minor": d.Minor, "op": e.op, "value": e.many})
		}
	}
	m := s.Memory
	return object{
		"cpu": object{"usage": object{"total": s.CPU.Usage, "percpu": s.CPU.PerCPU, "kernel": s.CPU.System, "user": s.CPU.User},
			"throttling": object{"periods": s.CPU.Periods, "throttledPeriods": s.CPU.Throttled, "throttledTime": s.CPU.ThrottledTime}},
		"cpuset": object{},
		"memory": object{"cache": m.Cache, "usage": object{"limit": m.Limit, "usage": m.Usage, "max": m.Peak, "failcnt": 0},
			"swap": object{"limit": 0, "usage": m.Usage + m.Swap, "failcnt": 0}, "kernel": object{"limit": 0, "failcnt": 0},
			"kernelTCP": object{"limit": 0, "failcnt": 0}, "raw": m.Raw},
		"pids":               object{"current": s.Pids.Current, "limit": unlimited(s.Pids.Limit)},
		"blkio":              object{"ioServiceBytesRecursive": bytes, "ioServicedRecursive": ops},
		"hugetlb":            object{},
		"intel_rdt":          object{},
		"network_interfaces": nil,
	}
}
