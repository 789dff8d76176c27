// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

// labelSandbox marks the engine's containers that are ours with their sandbox: their events say it when they are gone.
const labelSandbox = "io.knarr.cri.sandbox"

// containerSpec translates a container's config. box and pod are its sandbox; read reads a file of the host.
func containerSpec(c *pb.ContainerConfig, box container.Sandbox, pod *pb.PodSandboxConfig, read func(string) ([]byte, error)) (container.Spec, error) {
	sc := c.GetLinux().GetSecurityContext()
	out := container.Spec{
		Sandbox: box.Spec.ID, Hostname: box.Spec.Hostname, Image: c.GetImage().GetImage(),
		Labels: map[string]string{labelSandbox: box.Spec.ID}, Annotations: c.GetAnnotations(),
		Dir: c.GetWorkingDir(), Terminal: c.GetTty(), OpenStdin: c.GetStdin(), StdinOnce: c.GetStdinOnce(),
		Resources: resourcesOf(c.GetLinux().GetResources()),
	}
	if c.GetMetadata().GetName() == "" || out.Image == "" {
		return out, errs.New(errs.Invalid, "container config: the metadata's name and the image are needed")
	}
	out.Name = engineName(c.Metadata.Name, pod.GetMetadata(), c.Metadata.Attempt)
	if len(c.GetCommand()) > 0 {
		out.Entrypoint = c.Command
	}
	if len(c.GetArgs()) > 0 {
		out.Cmd = c.Args
	}
	for _, e := range c.GetEnvs() {
		out.Env = append(out.Env, e.GetKey()+"="+string(e.GetValue()))
	}
	if len(c.GetCDIDevices()) > 0 {
		return out, errs.New(errs.Invalid, "CDI device %q: CDI is not supported; pass devices by path", c.CDIDevices[0].GetName())
	}
	for _, d := range c.GetDevices() {
		out.Resources.Devices = append(out.Resources.Devices, container.Device{HostPath: d.HostPath, ContainerPath: d.ContainerPath, Permissions: d.Permissions})
	}
	var err error
	if out.User, err = userOf(sc); err != nil {
		return out, err
	}
	for _, g := range sc.GetSupplementalGroups() {
		out.Groups = append(out.Groups, strconv.FormatInt(g, 10))
	}
	out.OnlyGroups = sc.GetSupplementalGroupsPolicy() == pb.SupplementalGroupsPolicy_Strict
	if out.Security, err = securityOf(sc, read); err != nil {
		return out, err
	}
	if out.Security.Privileged && !pod.GetLinux().GetSecurityContext().GetPrivileged() {
		return out, errs.New(errs.Invalid, "a privileged container needs a privileged sandbox")
	}
	if out.PidMode, err = pidMode(sc.GetNamespaceOptions(), box.Spec); err != nil {
		return out, err
	}
	if out.Mounts, err = mountsOf(c.GetMounts()); err != nil {
		return out, err
	}
	if out.StopSignal, err = signalName(c.GetStopSignal()); err != nil {
		return out, err
	}
	if logPath := logPath(pod, c); logPath == "" {
		out.NoLog = true
	} else {
		out.LogPath = logPath
	}
	out.Request, err = keep(containerToKeep(c))
	return out, err
}

// logPath is where the kubelet wants the log: "" keeps none.
func logPath(pod *pb.PodSandboxConfig, c *pb.ContainerConfig) string {
	if pod.GetLogDirectory() == "" || c.GetLogPath() == "" {
		return ""
	}
	return filepath.Join(pod.LogDirectory, c.LogPath)
}

// engineName is the name that people know from `docker ps` on nodes; what a name cannot hold is replaced, and told apart by a
// hash.
func engineName(name string, pod *pb.PodSandboxMetadata, attempt uint32) string {
	full := fmt.Sprintf("k8s_%s_%s_%s_%s_%d", name, pod.GetName(), pod.GetNamespace(), pod.GetUid(), attempt)
	clean := strings.Map(func(r rune) rune {
		if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r)) {
			return r
		}
		return '-'
	}, full)
	if clean == full && len(full) <= 200 {
		return full
	}
	sum := sha256.Sum256([]byte(full))
	return clean[:min(len(clean), 180)] + "-" + hex.EncodeToString(sum[:6])
}

// pidMode is the engine's word for a container's PID namespace, where that is not its sandbox's.
func pidMode(ns *pb.NamespaceOption, box container.SandboxSpec) (string, error) {
	if err := noUserNamespace(ns); err != nil {
		return "", err
	}
	switch ns.GetPid() {
	case pb.NamespaceMode_POD:
		if ns != nil && !box.SharePID && !box.HostPID {
			return "", errs.New(errs.Invalid, "pid namespace mode POD: the sandbox was made without a shared one")
		}
		return "", nil
	case pb.NamespaceMode_CONTAINER:
		return "private", nil
	case pb.NamespaceMode_NODE:
		return "host", nil
	case pb.NamespaceMode_TARGET:
		if ns.GetTargetId() == "" {
			return "", errs.New(errs.Invalid, "pid namespace mode TARGET without a target_id")
		}
		return "container:" + ns.GetTargetId(), nil
	}
	return "", errs.New(errs.Invalid, "unknown pid namespace mode %d", ns.GetPid())
}

func mountsOf(list []*pb.Mount) ([]container.Mount, error) {
	var out []container.Mount
	for _, m := range list {
		switch {
		case m.GetImage().GetImage() != "":
			return nil, errs.New(errs.Unsupported, "mount at %s: an image as a volume is not supported", m.ContainerPath)
		case len(m.GetMountOptions()) > 0:
			return nil, errs.New(errs.Unsupported, "mount at %s: mount_options are not supported", m.ContainerPath)
		case len(m.GetUidMappings())+len(m.GetGidMappings()) > 0:
			return nil, errs.New(errs.Unsupported, "mount at %s: id mappings are not supported", m.ContainerPath)
		}
		b := container.Mount{Type: "bind", Source: m.HostPath, Target: m.ContainerPath, ReadOnly: m.Readonly, CreateSource: true}
		switch m.Propagation {
		case pb.MountPropagation_PROPAGATION_PRIVATE:
			b.Propagation = "rprivate"
		case pb.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
			b.Propagation = "rslave"
		case pb.MountPropagation_PROPAGATION_BIDIRECTIONAL:
			b.Propagation = "rshared"
		default:
			return nil, errs.New(errs.Invalid, "mount at %s: unknown propagation %d", m.ContainerPath, m.Propagation)
		}
		if m.RecursiveReadOnly {
			if !m.Readonly || m.Propagation != pb.MountPropagation_PROPAGATION_PRIVATE {
				return nil, errs.New(errs.Invalid, "mount at %s: recursive_read_only needs readonly and private propagation", m.ContainerPath)
			}
			b.Options = []string{"rro"}
		}
		out = append(out, b)
	}
	return out, nil
}

// signalName is "" for the runtime's default.
func signalName(s pb.Signal) (string, error) {
	name, known := strings.CutPrefix(s.String(), "SIGNAL_")
	if !known {
		return "", errs.New(errs.Invalid, "unknown stop signal %d", s)
	}
	if s == pb.Signal_SIGNAL_RUNTIME_DEFAULT {
		return "", nil
	}
	return strings.NewReplacer("MINPLUS", "MIN+", "MAXMINUS", "MAX-").Replace(name), nil
}

// signalOf is the reverse; what the interface has no word for is the runtime's default.
func signalOf(name string) pb.Signal {
	name = strings.NewReplacer("MIN+", "MINPLUS", "MAX-", "MAXMINUS").Replace(name)
	return pb.Signal(pb.Signal_value["SIGNAL_"+name])
}

// resourcesOf translates limits; zero is none. Memory without a word on swap gets no swap, as Kubernetes has it.
func resourcesOf(r *pb.LinuxContainerResources) container.Resources {
	if r == nil {
		return container.Resources{}
	}
	score := int(r.OomScoreAdj)
	out := container.Resources{
		CPUShares: uint64(max(0, r.CpuShares)), CPUPeriod: uint64(max(0, r.CpuPeriod)), CPUQuota: r.CpuQuota,
		CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems, Memory: max(0, r.MemoryLimitInBytes), MemorySwap: r.MemorySwapLimitInBytes,
		OOMScoreAdj: &score, Unified: maps.Clone(r.Unified),
	}
	if out.Memory > 0 && out.MemorySwap == 0 {
		out.MemorySwap = out.Memory
	}
	for _, h := range r.HugepageLimits {
		out.Hugepages = append(out.Hugepages, specs.LinuxHugepageLimit{Pagesize: h.PageSize, Limit: h.Limit})
	}
	return out
}

// limitsOf is the reverse, for status.
func limitsOf(r container.Resources) *pb.LinuxContainerResources {
	out := &pb.LinuxContainerResources{
		CpuShares: int64(r.CPUShares), CpuPeriod: int64(r.CPUPeriod), CpuQuota: r.CPUQuota, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		MemoryLimitInBytes: r.Memory, Unified: maps.Clone(r.Unified),
	}
	if r.MemorySwap > 0 {
		out.MemorySwapLimitInBytes = r.MemorySwap
	}
	if r.OOMScoreAdj != nil {
		out.OomScoreAdj = int64(*r.OOMScoreAdj)
	}
	for _, h := range r.Hugepages {
		out.HugepageLimits = append(out.HugepageLimits, &pb.HugepageLimit{PageSize: h.Pagesize, Limit: h.Limit})
	}
	return out
}
