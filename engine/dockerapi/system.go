// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/version"
)

func (s *Server) ping(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Builder-Version", "1") // the classic builder is the one that is served
	w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		fmt.Fprint(w, "OK")
	}
	return nil
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) error {
	details := map[string]string{"ApiVersion": version.DockerAPI, "MinAPIVersion": version.DockerAPIMin, "Os": runtime.GOOS, "Arch": runtime.GOARCH, "GoVersion": runtime.Version(), "KernelVersion": kernel()}
	return writeJSON(w, http.StatusOK, system.VersionResponse{
		Platform: system.PlatformInfo{Name: "Knarr"}, Version: version.Version, APIVersion: version.DockerAPI, MinAPIVersion: version.DockerAPIMin,
		Os: runtime.GOOS, Arch: runtime.GOARCH, GoVersion: runtime.Version(), KernelVersion: kernel(),
		Components: []system.ComponentVersion{{Name: "Engine", Version: version.Version, Details: details}},
	})
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// operatingSystem is the machine's name of itself.
func operatingSystem() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Linux"
}

func (s *Server) info(w http.ResponseWriter, r *http.Request) error {
	mem, err := machineMemory()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	can := s.Containers.Abilities()
	out := system.Info{
		ID: s.Name + "-" + host, Name: host, Images: len(s.Images.List()), Driver: "overlay2", DriverStatus: [][2]string{},
		MemoryLimit: can.Memory, SwapLimit: can.Swap, OomKillDisable: can.OOMDisable, CPUCfsPeriod: can.CFS, CPUCfsQuota: can.CFS,
		CPUShares: can.Shares, CPUSet: can.CpusetCpus != "", PidsLimit: can.Pids, IPv4Forwarding: true,
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: "json-file", CgroupDriver: "cgroupfs", CgroupVersion: cgroupVersion(),
		KernelVersion: kernel(), OperatingSystem: operatingSystem(), OSType: runtime.GOOS, Architecture: machine(), NCPU: runtime.NumCPU(),
		MemTotal: int64(mem), DockerRootDir: s.DataDir, ServerVersion: version.Version, NGoroutines: runtime.NumGoroutine(),
		Runtimes: map[string]system.RuntimeWithStatus{runtimeName: {Runtime: system.Runtime{Path: "knarr-shim"}}}, DefaultRuntime: runtimeName,
		Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}, LiveRestoreEnabled: true, SecurityOptions: []string{"name=seccomp,profile=builtin", "name=cgroupns"},
		Plugins: system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Log: []string{"json-file"}},
	}
	for _, c := range s.Containers.List() {
		out.Containers++
		switch c.State {
		case container.Running:
			out.ContainersRunning++
		case container.Paused:
			out.ContainersPaused++
		default:
			out.ContainersStopped++
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// machineMemory is the size of the machine's memory in bytes.
func machineMemory() (uint64, error) {
	var mem unix.Sysinfo_t
	if err := unix.Sysinfo(&mem); err != nil {
		return 0, fmt.Errorf("read memory size: %w", err)
	}
	return uint64(mem.Totalram) * uint64(mem.Unit), nil
}

func machine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}

func cgroupVersion() string {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "2"
	}
	return "1"
}

func (s *Server) pluginList(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, []struct{}{})
}

// publish tells subscribers of something that happened to an image, network or volume.
func (s *Server) publish(typ, action, id string) {
	s.Containers.Publish(container.Event{Type: typ, Action: action, ID: id, Attributes: map[string]string{"name": id}})
}
