// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/types"
)

// metrics are of the kubelet itself, under the names of upstream's.
func (s *server) metrics() http.HandlerFunc {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	own := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	name := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_node_name", Help: "The node's name. The count is always 1."}, []string{"node"})
	name.WithLabelValues(s.cfg.NodeName).Set(1)
	pods := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubelet_running_pods", Help: "Number of pods that have a running pod sandbox"})
	containers := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_running_containers", Help: "Number of containers currently running"}, []string{"container_state"})
	reg.MustRegister(name, pods, containers)
	return func(w http.ResponseWriter, r *http.Request) {
		u := s.pods.Usage(r.Context())
		n := 0
		for i := range u.Pods {
			n += len(u.Pods[i].Containers)
		}
		pods.Set(float64(len(u.Pods)))
		containers.WithLabelValues("running").Set(float64(n))
		own.ServeHTTP(w, r)
	}
}

// exposition writes metrics that carry the time at which they were read.
type exposition struct{ bytes.Buffer }

func (b *exposition) family(name, kind, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (b *exposition) value(name, labels string, v float64, at time.Time) {
	fmt.Fprintf(b, "%s%s %g %d\n", name, labels, v, at.UnixMilli())
}

func (b *exposition) send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

// resourceMetrics is what metrics-server scrapes.
func (s *server) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	u := s.pods.Usage(r.Context())
	b := &exposition{}
	each := func(name, kind, help string, of func(*ContainerUsage) float64) {
		b.family(name, kind, help)
		for i := range u.Pods {
			for j := range u.Pods[i].Containers {
				c := &u.Pods[i].Containers[j]
				b.value(name, fmt.Sprintf("{container=%q,namespace=%q,pod=%q}", c.Name, u.Pods[i].Pod.Namespace, u.Pods[i].Pod.Name), of(c), c.Time)
			}
		}
	}
	each("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds",
		func(c *ContainerUsage) float64 { return float64(c.CPUNanos) / 1e9 })
	each("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes",
		func(c *ContainerUsage) float64 { return float64(c.MemoryWorkingSet) })
	each("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds",
		func(c *ContainerUsage) float64 { return float64(c.Started.UnixMilli()) / 1e3 })
	b.family("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds")
	b.value("node_cpu_usage_seconds_total", "", float64(u.Node.CPUNanos)/1e9, u.Node.Time)
	b.family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes")
	b.value("node_memory_working_set_bytes", "", float64(u.Node.MemoryUsage), u.Node.Time)
	for _, m := range []struct {
		name, kind string
		of         func(podSummary) float64
	}{
		{"pod_cpu_usage_seconds_total", "counter", func(p podSummary) float64 { return float64(p.CPU.UsageCoreNanoSeconds) / 1e9 }},
		{"pod_memory_working_set_bytes", "gauge", func(p podSummary) float64 { return float64(p.Memory.WorkingSetBytes) }},
	} {
		b.family(m.name, m.kind, "Of the whole pod")
		for i := range u.Pods {
			p := s.podSummary(&u.Pods[i])
			b.value(m.name, fmt.Sprintf("{namespace=%q,pod=%q}", p.PodRef.Namespace, p.PodRef.Name), m.of(p), p.CPU.Time)
		}
	}
	b.family("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
	fmt.Fprint(b, "resource_scrape_error 0\n")
	b.send(w)
}

// cadvisorMetrics are those of containers and the machine under the names that dashboards know from cAdvisor.
func (s *server) cadvisorMetrics(w http.ResponseWriter, r *http.Request) {
	u := s.pods.Usage(r.Context())
	b := &exposition{}
	for _, m := range []struct {
		name, kind, help string
		of               func(*ContainerUsage) float64
	}{
		{"container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", func(c *ContainerUsage) float64 { return float64(c.CPUNanos) / 1e9 }},
		{"container_fs_inodes_total", "gauge", "Number of inodes of the container's own files.", func(c *ContainerUsage) float64 { return float64(c.RootfsInodes) }},
		{"container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container on this filesystem.", func(c *ContainerUsage) float64 { return float64(c.RootfsBytes) }},
		{"container_memory_rss", "gauge", "Size of RSS in bytes.", func(c *ContainerUsage) float64 { return float64(c.MemoryRSS) }},
		{"container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed", func(c *ContainerUsage) float64 { return float64(c.MemoryUsage) }},
		{"container_memory_working_set_bytes", "gauge", "Current working set in bytes.", func(c *ContainerUsage) float64 { return float64(c.MemoryWorkingSet) }},
		{"container_processes", "gauge", "Number of processes running inside the container.", func(c *ContainerUsage) float64 { return float64(c.Pids) }},
		{"container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.", func(c *ContainerUsage) float64 { return float64(c.Started.Unix()) }},
	} {
		b.family(m.name, m.kind, m.help)
		for i := range u.Pods {
			p := u.Pods[i].Pod
			for j := range u.Pods[i].Containers {
				c := &u.Pods[i].Containers[j]
				b.value(m.name, fmt.Sprintf("{container=%q,image=%q,namespace=%q,pod=%q}", c.Name, imageOf(p, c.Name), p.Namespace, p.Name), m.of(c), c.Time)
			}
		}
	}
	for _, m := range []struct {
		name string
		of   func(*PodUsage) uint64
	}{
		{"container_network_receive_bytes_total", func(u *PodUsage) uint64 { return u.Sandbox.RxBytes }},
		{"container_network_receive_errors_total", func(u *PodUsage) uint64 { return u.Sandbox.RxErrors }},
		{"container_network_transmit_bytes_total", func(u *PodUsage) uint64 { return u.Sandbox.TxBytes }},
		{"container_network_transmit_errors_total", func(u *PodUsage) uint64 { return u.Sandbox.TxErrors }},
	} {
		b.family(m.name, "counter", "Cumulative count of the pod's network.")
		for i := range u.Pods {
			if p := &u.Pods[i]; p.Sandbox.Interface != "" {
				b.value(m.name, fmt.Sprintf("{interface=%q,namespace=%q,pod=%q}", p.Sandbox.Interface, p.Pod.Namespace, p.Pod.Name), float64(m.of(p)), p.Sandbox.Time)
			}
		}
	}
	b.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.")
	b.value("machine_cpu_cores", "", float64(runtime.NumCPU()), u.Node.Time)
	b.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.")
	b.value("machine_memory_bytes", "", float64(u.Node.MemoryUsage+u.Node.MemoryAvailable), u.Node.Time)
	b.send(w)
}

// ProbeOf is what a probe asked, and how it was answered.
type ProbeOf struct {
	UID                       types.UID
	Namespace, Pod, Container string
	Type                      string // Liveness, Readiness, Startup
	OK                        bool
}

// ProbeCounts counts answers of probes. The zero value works; it may be used concurrently.
type ProbeCounts struct {
	mu sync.Mutex // guards by
	by map[ProbeOf]uint64
}

// Add counts one answer.
func (c *ProbeCounts) Add(p ProbeOf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[ProbeOf]uint64{}
	}
	c.by[p]++
}

// Forget drops the counts of a pod that is gone.
func (c *ProbeCounts) Forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.by {
		if p.UID == uid {
			delete(c.by, p)
		}
	}
}

func (s *server) probeMetrics(w http.ResponseWriter, _ *http.Request) {
	b := &exposition{}
	b.family("prober_probe_total", "counter", "Cumulative number of a liveness, readiness or startup probe for a container by result.")
	var lines []string
	if c := s.cfg.Probes; c != nil {
		c.mu.Lock()
		for p, n := range c.by {
			result := map[bool]string{true: "successful", false: "failed"}[p.OK]
			lines = append(lines, fmt.Sprintf("prober_probe_total{container=%q,namespace=%q,pod=%q,pod_uid=%q,probe_type=%q,result=%q} %d\n",
				p.Container, p.Namespace, p.Pod, p.UID, p.Type, result, n))
		}
		c.mu.Unlock()
	}
	slices.SortFunc(lines, cmp.Compare[string])
	b.WriteString(strings.Join(lines, ""))
	b.send(w)
}
