// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/json"
	"io"
	"net/netip"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/image"
)

// Spec is what a caller wants run. It is validated whole by Create, written to disk, and never changes afterwards but by
// Update. Zero values mean the image's or the engine's default.
type Spec struct {
	Name        string // unique in the instance; generated when empty
	Image       string // reference or ID
	Labels      map[string]string
	Annotations map[string]string

	Entrypoint  []string // nil: the image's; empty non-nil: none
	Cmd         []string // nil: the image's (unless Entrypoint is given)
	Env         []string // "K=V", after the image's
	Dir         string
	User        string // "user[:group]" by name or number, looked up in the container's own /etc/passwd
	Groups      []string
	OnlyGroups  bool // no further groups than Groups: what /etc/group of the image gives the user is left out
	Hostname    string
	Domainname  string
	Terminal    bool
	OpenStdin   bool
	StdinOnce   bool // close stdin when the first attached client leaves
	StopSignal  string
	StopGrace   *time.Duration     // nil: 10 s
	Healthcheck *HealthcheckConfig // nil: the image's
	Init        bool               // run a small init as PID 1 (knarr-shim's own)
	ShmSize     int64              // bytes; 0: 64 MiB

	Mounts       []Mount
	Tmpfs        map[string]string // path -> mount options
	Network      NetworkSpec
	Restart      RestartPolicy
	AutoRemove   bool
	LogPath      string   // "" = the engine's own folder; the kubelet's pods log to /var/log/pods/…
	LogMaxBytes  int64    // rotate past this; 0: never
	LogMaxFiles  int      // log files kept in all; 0: 1
	NoLog        bool     // keep nothing of what it writes
	Sandbox      string   // ID of a Sandbox whose namespaces and network are joined; "" = none
	CgroupParent string   // relative to the instance's own group, or absolute in the hierarchy; "" = the sandbox's, else the instance's group
	Expose       []string // "80/tcp", besides the image's

	Networks map[string]NetworkSpec // further ones, by name or ID; not of a Sandbox
	Request  json.RawMessage        // what an API was asked, in its own words: kept for its inspect, never read here

	Resources                                           Resources
	Security                                            Security
	PidMode, IpcMode, UTSMode, CgroupnsMode, UsernsMode string // "", "private", "host", "container:ID"
}

// HealthcheckConfig is the image format's.
type HealthcheckConfig = dockerspec.HealthcheckConfig

// Mount is one volume, bind or tmpfs mount.
type Mount struct {
	Type         string // "bind", "volume", "tmpfs", "image"
	Source       string // host path, volume name ("" = anonymous), image
	Target       string
	ReadOnly     bool
	Propagation  string   // "", "rprivate", "rslave", "rshared", …
	NoCopy       bool     // volume: do not copy up what the image has at Target
	CreateSource bool     // bind: make a missing source directory, as docker -v does
	Options      []string // further mount options (tmpfs size=, mode=)

	Subpath                       string            // volume, image: what of it is mounted
	VolumeLabels, VolumeOptions   map[string]string // of a volume that is made for this mount
	NonRecursive, ReadOnlyShallow bool              // bind: without what is mounted below; what is mounted below stays writable
}

// NetworkSpec says how a container without a Sandbox is connected.
type NetworkSpec struct {
	Mode                       string // "bridge" (default), "host", "none", "container:ID", or a network's name
	Ports                      []Port
	IP, IP6                    netip.Addr // wishes; invalid = any
	MAC                        string     // a wish
	GatewayPriority            int        // the network with the highest has the default route
	Aliases                    []string
	Links                      []string // "container:alias": names that only this container uses
	DNS, DNSSearch, DNSOptions []string
	ExtraHosts                 []string // "host:ip"; the address "host-gateway" is the network's gateway
	PublishAll                 bool     // publish every exposed port on a port the engine picks
}

// Port publishes a container port on the host.
type Port struct {
	HostIP        netip.Addr // invalid = all
	HostPort      uint16     // 0 = the engine picks one
	HostPortEnd   uint16     // above HostPort: the first free one from HostPort to here
	ContainerPort uint16
	Protocol      string // "tcp", "udp"
}

// RestartPolicy is Docker's: "no" (default), "always", "unless-stopped", "on-failure" with a bound.
type RestartPolicy struct {
	Name       string
	MaxRetries int
}

// Resources limit a container; zero = no limit.
type Resources struct {
	CPUShares                             uint64
	CPUPeriod                             uint64 // µs
	CPUQuota                              int64  // µs
	NanoCPUs                              int64  // 1e9 = one CPU; excludes period and quota
	CpusetCpus, CpusetMems                string
	Memory, MemorySwap, MemoryReservation int64  // bytes; MemorySwap -1 = unlimited
	MemorySwappiness                      *int64 // 0 to 100; nil: the parent's
	CPURealtimePeriod, CPURealtimeRuntime int64  // µs; cgroup v1 only
	PidsLimit                             int64  // -1 = unlimited, to undo a limit with Update
	OOMScoreAdj                           *int
	OOMKillDisable                        bool
	Ulimits                               []specs.POSIXRlimit
	BlkioWeight                           uint16       // 10 to 1000
	BlkioWeightDevice                     []DeviceRate // Rate: a weight
	BlkioReadBps, BlkioWriteBps           []DeviceRate // Rate: bytes per second
	BlkioReadIOps, BlkioWriteIOps         []DeviceRate // Rate: operations per second
	Hugepages                             []specs.LinuxHugepageLimit
	Unified                               map[string]string // cgroup v2 files by name: they win over the fields above
	Devices                               []Device
	DeviceRules                           []string // "c 10:200 rwm"
}

// DeviceRate limits or weighs the use of one block device of the host.
type DeviceRate struct {
	Path string
	Rate uint64
}

// Device passes a host device on.
type Device struct{ HostPath, ContainerPath, Permissions string }

// Security narrows or widens what the processes may do.
type Security struct {
	Privileged                 bool
	CapAdd, CapDrop            []string // with or without CAP_, "ALL"
	NoNewPrivileges            bool
	ReadonlyRootfs             bool
	Seccomp                    string // "" = the default profile; "unconfined"; else the JSON profile itself. Anything unreadable fails closed.
	Sysctls                    map[string]string
	MaskedPaths, ReadonlyPaths []string // nil = defaults
}

// State is a container's condition; the words are Docker's.
type State string

// The life of a container:
//
//	created ──Start──> running <──Unpause/Pause──> paused
//	   │                  │ exit
//	   │                  v
//	   └──Remove──<──  exited ──Start──> running       (restarting: exited, waiting for the policy's back-off)
const (
	Created    State = "created"
	Running    State = "running"
	Paused     State = "paused"
	Restarting State = "restarting"
	Exited     State = "exited"
	Removing   State = "removing"
	Dead       State = "dead"
)

// Container is a view of one container at one moment; a value that its holder owns.
type Container struct {
	ID                                      string // 64 hex digits
	Spec                                    Spec
	ImageID                                 string
	ImageRef                                string                // as asked for
	Config                                  image.ContainerConfig // the image's config with the Spec laid over it: what inspect shows; shared, read only
	Args                                    []string              // what PID 1 was given
	Created                                 time.Time
	State                                   State
	Pid                                     int // 0 unless running
	StartedAt, FinishedAt                   time.Time
	ExitCode                                int
	Signal                                  int    // that ended it; 0: none
	StopSignal                              string // what Stop sends, as it was resolved: "SIGTERM"
	OOMKilled                               bool
	Error                                   string // why the last start failed
	RestartCount                            int
	LogPath                                 string
	Rootfs                                  string              // host path, mounted while it runs
	HostsPath, ResolvConfPath, HostnamePath string              // host paths; "" when the container has its own file
	NetnsPath                               string              // "" with the host's network
	Endpoints                               map[string]Endpoint // by network name
	Health                                  *Health             // nil: there is no health check
	MountPoints                             []MountPoint
	Networks                                map[string]NetworkSpec // all that it is to be on, by name, whether or not it runs
	ExecIDs                                 []string               // sorted; of execs that have not ended
	Warnings                                []string               // what Create left out of the Spec, and why; nobody else sets it
}

// Endpoint is a container's place in a network.
type Endpoint struct {
	Network   string
	NetworkID string
	IP        netip.Addr
	PrefixLen int
	Gateway   netip.Addr
	MAC       string
	Aliases   []string

	IP6        netip.Addr // invalid without IPv6, as the next
	PrefixLen6 int
	Gateway6   netip.Addr

	Ports []Port // as published, with the host ports that were picked

	NameServer netip.Addr // knows the network's containers by name; zero if the network has none
}

// MountPoint is a mount as it was resolved.
type MountPoint struct {
	Type, Name, Source, Target, Propagation string   // Source is a host path; Name that of a volume
	Options                                 []string // further mount options
	ReadOnly                                bool

	Subpath                       string
	NonRecursive, ReadOnlyShallow bool
}

// SandboxSpec is a pod's shared part: namespaces pinned by bind mounts (no process), a network address, a cgroup.
type SandboxSpec struct {
	ID                            string // chosen by the caller: unique, [a-z0-9-]
	Hostname                      string
	HostNetwork, HostPID, HostIPC bool
	SharePID                      bool
	Network                       string // engine network to attach to; ignored with HostNetwork
	Ports                         []Port // hostPorts
	CgroupParent                  string
	Resources                     Resources
	Sysctls                       map[string]string
	Labels                        map[string]string
	DNS, DNSSearch, DNSOptions    []string // the resolv.conf of its containers
	ExtraHosts                    []string
	CgroupOutside                 string          // a group of somebody else's, absolute, in which the sandbox's own is made; excludes CgroupParent
	Request                       json.RawMessage // as Spec's
}

// Sandbox is a view of one sandbox.
type Sandbox struct {
	Spec      SandboxSpec
	IP        netip.Addr // invalid with HostNetwork
	NetnsPath string     // "" with HostNetwork
	Cgroup    string     // path of its cgroup, below which its containers' are
	Ready     bool       // its namespaces exist; a reboot takes them
	Created   time.Time
}

// Event is one thing that happened; the words are Docker's (create start die stop kill oom destroy exec_create …).
type Event struct {
	Time       time.Time
	Type       string // "container", "image", "network", "volume"
	Action     string
	ID         string
	Attributes map[string]string // name, image, exitCode, signal, …
}

// ExecSpec is a further process in a running container.
type ExecSpec struct {
	Args            []string
	Env             []string
	Dir, User       string
	Terminal, Stdin bool
	Privileged      bool
	DetachKeys      string // kept for the edge that the streams come from
}

// Streams connect a caller with a process. Nil members are not connected. With a terminal, Stdout carries all.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size // optional
}

// Size of a terminal in character cells.
type Size struct{ Cols, Rows uint16 }

// LogOptions narrows Logs.
type LogOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Since, Until   time.Time
	Tail           int // lines; -1 = all
}

// LogLine is one line (or the part of a very long one) as the container wrote it.
type LogLine struct {
	Time    time.Time
	Stream  string // "stdout", "stderr"
	Partial bool   // the line goes on in the next
	Data    []byte // with its newline, unless Partial
}
