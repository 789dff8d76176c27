// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

// maxProfile bounds a seccomp profile's file.
const maxProfile = 1 << 20

// securityOf translates a container's security context. What it does not know it refuses (CVE-2023-2431): no container runs
// with less confinement than was asked for.
func securityOf(sc *pb.LinuxContainerSecurityContext, read func(path string) ([]byte, error)) (container.Security, error) {
	var out container.Security
	//lint:ignore SA1019 older kubelets say it there
	if err := noLabels(sc.GetApparmor(), sc.GetApparmorProfile(), sc.GetSelinuxOptions()); err != nil {
		return out, err
	}
	caps := sc.GetCapabilities()
	if len(caps.GetAddAmbientCapabilities()) > 0 {
		return out, errs.New(errs.Invalid, "add_ambient_capabilities is not supported: give the program file capabilities instead")
	}
	//lint:ignore SA1019 older kubelets say it there
	profile, err := seccompOf(sc.GetSeccomp(), sc.GetSeccompProfilePath(), read)
	if err != nil {
		return out, err
	}
	out = container.Security{
		Privileged: sc.GetPrivileged(), CapAdd: caps.GetAddCapabilities(), CapDrop: caps.GetDropCapabilities(),
		NoNewPrivileges: sc.GetNoNewPrivs(), ReadonlyRootfs: sc.GetReadonlyRootfs(), Seccomp: profile,
		MaskedPaths: append([]string{}, sc.GetMaskedPaths()...), ReadonlyPaths: append([]string{}, sc.GetReadonlyPaths()...),
	}
	if sc == nil { // nobody decided: the engine's own lists
		out.MaskedPaths, out.ReadonlyPaths = nil, nil
	}
	return out, nil
}

// seccompOf answers the engine's word for a profile: "" is the default one. Nothing said is the default too.
func seccompOf(p *pb.SecurityProfile, old string, read func(string) ([]byte, error)) (string, error) {
	const local = "localhost/"
	if p == nil {
		switch ref, isLocal := strings.CutPrefix(old, local); {
		case isLocal:
			p = &pb.SecurityProfile{ProfileType: pb.SecurityProfile_Localhost, LocalhostRef: ref}
		case old == "" || old == "runtime/default" || old == "docker/default":
			return "", nil
		case old == "unconfined":
			return "unconfined", nil
		default:
			return "", errs.New(errs.Invalid, "unknown seccomp profile %q", old)
		}
	}
	switch p.ProfileType {
	case pb.SecurityProfile_RuntimeDefault:
		return "", nil
	case pb.SecurityProfile_Unconfined:
		return "unconfined", nil
	case pb.SecurityProfile_Localhost:
		path := strings.TrimPrefix(p.LocalhostRef, local)
		if !filepath.IsAbs(path) {
			return "", errs.New(errs.Invalid, "seccomp: localhost_ref %q is not an absolute path", p.LocalhostRef)
		}
		body, err := read(path)
		if err != nil {
			return "", errs.New(errs.Invalid, "seccomp profile: %w", err)
		}
		text := strings.TrimSpace(string(body))
		if text == "" || !strings.HasPrefix(text, "{") {
			return "", errs.New(errs.Invalid, "the seccomp profile %s is not a JSON object", path)
		}
		return text, nil
	}
	return "", errs.New(errs.Invalid, "seccomp: unknown profile type %d", p.ProfileType)
}

// readProfile reads a file of the host's administrator.
func readProfile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err == nil && len(body) > maxProfile {
		err = errs.New(errs.TooLarge, "%s is larger than %d bytes", path, maxProfile)
	}
	return body, err
}

// noLabels refuses what only a security module could hold. "The runtime's default" is none where there is no module in use.
func noLabels(apparmor *pb.SecurityProfile, old string, selinux *pb.SELinuxOption) error {
	if apparmor.GetProfileType() == pb.SecurityProfile_Localhost {
		return errs.New(errs.Invalid, "AppArmor profile %q: AppArmor is not supported; use RuntimeDefault or Unconfined", apparmor.LocalhostRef)
	}
	if apparmor == nil && old != "" && old != "runtime/default" && old != "unconfined" {
		return errs.New(errs.Invalid, "AppArmor profile %q: AppArmor is not supported; use runtime/default or unconfined", old)
	}
	if selinux.GetLevel() != "" || selinux.GetType() != "" || selinux.GetUser() != "" || selinux.GetRole() != "" {
		if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil { // elsewhere labels mean nothing
			return errs.New(errs.Invalid, "SELinux options are not supported on a machine that enforces SELinux")
		}
	}
	return nil
}

// userOf answers "user[:group]".
func userOf(sc *pb.LinuxContainerSecurityContext) (string, error) {
	user := sc.GetRunAsUsername()
	if u := sc.GetRunAsUser(); u != nil {
		if user != "" {
			return "", errs.New(errs.Invalid, "run_as_user and run_as_username are both given")
		}
		user = strconv.FormatInt(u.Value, 10)
	}
	if strings.Contains(user, ":") {
		return "", errs.New(errs.Invalid, "run_as_username %q holds a colon", user)
	}
	if g := sc.GetRunAsGroup(); g != nil {
		if user == "" {
			return "", errs.New(errs.Invalid, "run_as_group is given without run_as_user or run_as_username")
		}
		user += ":" + strconv.FormatInt(g.Value, 10)
	}
	return user, nil
}
