// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// contexts are the pod's and the container's security context, never nil.
func contexts(p *corev1.Pod, c *corev1.Container) (*corev1.PodSecurityContext, *corev1.SecurityContext) {
	pc, cc := p.Spec.SecurityContext, c.SecurityContext
	if pc == nil {
		pc = &corev1.PodSecurityContext{}
	}
	if cc == nil {
		cc = &corev1.SecurityContext{}
	}
	return pc, cc
}

func first[T any](ps ...*T) *T {
	for _, p := range ps {
		if p != nil {
			return p
		}
	}
	return nil
}

const maxID = 1<<32 - 2 // (uid_t)-1 means "do not change"

// user is who the container runs as; with runAsNonRoot it is somebody of whom that is certain.
func user(in Input) (string, error) {
	pc, cc := contexts(in.Pod, in.Spec)
	uid, gid := first(cc.RunAsUser, pc.RunAsUser), first(cc.RunAsGroup, pc.RunAsGroup)
	for _, id := range []*int64{uid, gid} {
		if id != nil && (*id < 0 || *id > maxID) {
			return "", errs.New(errs.Invalid, "user or group %d is not between 0 and %d", *id, maxID)
		}
	}
	imageUser, _, _ := strings.Cut(in.Image.User, ":")
	if nonRoot := first(cc.RunAsNonRoot, pc.RunAsNonRoot); nonRoot != nil && *nonRoot {
		if err := mustNotBeRoot(in, uid, imageUser); err != nil {
			return "", err
		}
	}
	switch {
	case uid == nil && gid == nil:
		return "", nil
	case uid == nil && imageUser == "":
		return "0:" + strconv.FormatInt(*gid, 10), nil
	case uid == nil:
		return imageUser + ":" + strconv.FormatInt(*gid, 10), nil
	case gid == nil:
		return strconv.FormatInt(*uid, 10), nil
	}
	return fmt.Sprintf("%d:%d", *uid, *gid), nil
}

// mustNotBeRoot trusts numbers only: a name means what the image's own /etc/passwd says, and a number that does not fit
// may wrap around to 0 (CVE class: GO-2025-3528).
func mustNotBeRoot(in Input, uid *int64, imageUser string) error {
	where := fmt.Sprintf("(pod: %q, container: %s)", fmt.Sprintf("%s_%s(%s)", in.Pod.Name, in.Pod.Namespace, in.Pod.UID), in.Spec.Name)
	if uid != nil {
		if *uid == 0 {
			return errs.New(errs.Denied, "container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	if imageUser == "" {
		return errs.New(errs.Denied, "container has runAsNonRoot and image will run as root %s", where)
	}
	n, err := strconv.ParseUint(imageUser, 10, 64)
	switch {
	case err != nil && strings.Trim(imageUser, "0123456789+-") != "":
		return errs.New(errs.Denied, "container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", imageUser, where)
	case err != nil, n > maxID:
		return errs.New(errs.Denied, "container has runAsNonRoot and image has user %s, which is not between 0 and %d %s", imageUser, maxID, where)
	case n == 0:
		return errs.New(errs.Denied, "container has runAsNonRoot and image will run as root %s", where)
	}
	return nil
}

func groups(p *corev1.Pod) []int64 {
	pc := p.Spec.SecurityContext
	if pc == nil {
		return nil
	}
	out := slices.Clone(pc.SupplementalGroups)
	if pc.FSGroup != nil && !slices.Contains(out, *pc.FSGroup) {
		out = append(out, *pc.FSGroup)
	}
	return out
}

func security(in Input) (podruntime.Security, error) {
	_, cc := contexts(in.Pod, in.Spec)
	s := podruntime.Security{
		Privileged:      cc.Privileged != nil && *cc.Privileged,
		NoNewPrivileges: cc.AllowPrivilegeEscalation != nil && !*cc.AllowPrivilegeEscalation,
		ReadonlyRootfs:  cc.ReadOnlyRootFilesystem != nil && *cc.ReadOnlyRootFilesystem,
		UnmaskedProc:    cc.ProcMount != nil && *cc.ProcMount == corev1.UnmaskedProcMount,
		Seccomp:         in.Seccomp,
	}
	if s.Privileged && in.Seccomp == "" {
		s.Seccomp = Unconfined
	}
	if cc.Capabilities != nil {
		for _, c := range cc.Capabilities.Add {
			s.CapAdd = append(s.CapAdd, string(c))
		}
		for _, c := range cc.Capabilities.Drop {
			s.CapDrop = append(s.CapDrop, string(c))
		}
	}
	return s, appArmor(in.Pod, in.Spec)
}

// Unconfined is no seccomp profile at all.
const Unconfined = "unconfined"

// SeccompFile says which seccomp profile a container gets: the runtime's default (both empty), Unconfined, or a file below
// the node's profile folder, as a relative path. What is empty or not known is an error: it must not end unconfined
// (CVE-2023-2431).
func SeccompFile(p *corev1.Pod, c *corev1.Container) (profile, file string, err error) {
	pc, cc := contexts(p, c)
	sp := first(cc.SeccompProfile, pc.SeccompProfile)
	if sp == nil {
		return "", "", nil
	}
	switch sp.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return "", "", nil
	case corev1.SeccompProfileTypeUnconfined:
		return Unconfined, "", nil
	case corev1.SeccompProfileTypeLocalhost:
		if sp.LocalhostProfile == nil || *sp.LocalhostProfile == "" {
			return "", "", errs.New(errs.Invalid, "localhostProfile must be set if seccompProfile type is Localhost")
		}
		if !filepath.IsLocal(*sp.LocalhostProfile) {
			return "", "", errs.New(errs.Invalid, "seccomp localhostProfile %q is not a path below the node's profile folder", *sp.LocalhostProfile)
		}
		return "", *sp.LocalhostProfile, nil
	}
	return "", "", errs.New(errs.Invalid, "seccompProfile type %q is not known", sp.Type)
}

// appArmor refuses profiles: this version enforces none, and must not pretend to.
func appArmor(p *corev1.Pod, c *corev1.Container) error {
	pc, cc := contexts(p, c)
	if a := first(cc.AppArmorProfile, pc.AppArmorProfile); a != nil && a.Type == corev1.AppArmorProfileTypeLocalhost {
		return errs.New(errs.Unsupported, "AppArmor profiles of type Localhost are not supported on this node")
	}
	return nil
}

// safeSysctls are namespaced and cannot harm the node or other pods.
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem",
}

// sysctls checks what the pod sets (CVE-2022-0811: values that smuggle further settings).
func sysctls(p *corev1.Pod) (map[string]string, error) {
	if p.Spec.SecurityContext == nil || len(p.Spec.SecurityContext.Sysctls) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, s := range p.Spec.SecurityContext.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		switch {
		case !slices.Contains(safeSysctls, name):
			return nil, errs.New(errs.Denied, "forbidden sysctl: %q not allowlisted", s.Name)
		case p.Spec.HostNetwork && strings.HasPrefix(name, "net."), p.Spec.HostIPC && strings.HasPrefix(name, "kernel.shm"):
			return nil, errs.New(errs.Denied, "forbidden sysctl: %q not allowed with the host's namespace", s.Name)
		case strings.Trim(s.Value, "0123456789-, \t") != "":
			return nil, errs.New(errs.Invalid, "forbidden sysctl: value %q of %q is not a list of numbers", s.Value, s.Name)
		}
		out[name] = s.Value
	}
	return out, nil
}
