// SPDX-License-Identifier: Apache-2.0

package podruntime

import "net/netip"

// The labels that every sandbox and container of a pod carries. The first four are Kubernetes' own.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"
	LabelAttempt       = "io.knarr.kubelet.attempt"      // how many of the same name and pod came before: the restart count
	LabelSpecHash      = "io.knarr.kubelet.spec-hash"    // of the container in the pod's spec
	LabelKind          = "io.knarr.kubelet.kind"         // "init", "container", "ephemeral"
	LabelBackoff       = "io.knarr.kubelet.backoff"      // how long to wait after its end before the next one is started
	LabelGrace         = "io.knarr.kubelet.grace"        // seconds between the stop signal and SIGKILL
	LabelMessagePath   = "io.knarr.kubelet.message-path" // termination message file on the host
)

// SandboxSpec is wanted of a sandbox.
type SandboxSpec struct {
	ID                                      string // unique, [a-z0-9-]
	Name, Namespace, UID                    string // of the pod
	Hostname                                string
	HostNetwork, HostPID, HostIPC, SharePID bool
	HostPorts                               []HostPort
	CgroupParent                            string // "kubepods/burstable/pod<uid>", below the instance's own group
	Resources                               Resources
	Sysctls                                 map[string]string
	Labels                                  map[string]string
	DNS                                     DNS
}

// DNS is the resolv.conf of a pod's containers.
type DNS struct{ Servers, Searches, Options []string }

// HostPort publishes a port of the pod on the node.
type HostPort struct {
	HostIP        netip.Addr // invalid: all
	HostPort      uint16
	ContainerPort uint16
	Protocol      string // "TCP", "UDP", "SCTP"
}

// ContainerSpec is wanted of a container. It joins the namespaces of its sandbox.
type ContainerSpec struct {
	Name         string // unique in the runtime
	Sandbox      string
	Image        string   // ID of an image that is on the node
	ImageRef     string   // as the pod says it
	Command      []string // nil: the image's entrypoint (and its cmd, if Args is nil too)
	Args         []string // nil: the image's cmd, unless Command is given
	Env          []string // "K=V", after the image's
	Dir          string   // "": the image's
	User         string   // "uid[:gid]" or ""; "" is the image's
	Groups       []int64  // supplemental
	Terminal     bool
	Stdin        bool
	StdinOnce    bool
	StopSignal   string // "": the image's, else SIGTERM
	Mounts       []Mount
	Devices      []Device
	CgroupParent string // the sandbox's
	Resources    Resources
	Security     Security
	LogPath      string // absolute; its folder exists
	Labels       map[string]string
}

// Mount is a bind mount of a host path.
type Mount struct {
	Source, Target    string
	ReadOnly          bool
	RecursiveReadOnly bool
	Propagation       string // "" and "rprivate", "rslave", "rshared"
}

// Device passes a host device on.
type Device struct{ HostPath, ContainerPath, Permissions string }

// Resources limit a cgroup; zero: no limit (CPUShares: the kernel's default).
type Resources struct {
	CPUShares   uint64 // cgroup v1's scale, 2…262144
	CPUPeriod   uint64 // µs
	CPUQuota    int64  // µs
	Memory      int64  // bytes; no swap beyond it
	PidsLimit   int64
	OOMScoreAdj *int
}

// Security narrows or widens what the processes may do.
type Security struct {
	Privileged      bool
	CapAdd, CapDrop []string // without CAP_; "ALL"
	NoNewPrivileges bool
	ReadonlyRootfs  bool
	Seccomp         string // "" = the runtime's default profile, "unconfined", else the JSON profile itself
	UnmaskedProc    bool   // procMount: Unmasked
}

// Credential for a registry.
type Credential struct{ Username, Password, IdentityToken, RegistryToken string }

// LogOptions narrows Logs.
type LogOptions struct {
	Follow bool
	Tail   int // lines, -1: all
	// SinceUnixNano leaves out what was written before; 0: nothing.
	SinceUnixNano int64
}

// ExecSpec is a further process in a container.
type ExecSpec struct {
	Args     []string
	Terminal bool
	Stdin    bool
}
