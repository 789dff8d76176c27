// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"unsafe"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_STACK": unix.RLIMIT_STACK,
}

// validateProcess reports every fault of the process that can be seen without running it.
func validateProcess(p *specs.Process) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, errs.New(errs.Invalid, format, args...)) }
	if p == nil {
		return errs.New(errs.Invalid, "process: missing")
	}
	if len(p.Args) == 0 || p.Args[0] == "" {
		fault("process.args: no program to run")
	}
	if !path.IsAbs(p.Cwd) {
		fault("process.cwd: %q is not an absolute path", p.Cwd)
	}
	for i, e := range p.Env {
		if strings.ContainsRune(e, 0) {
			fault("process.env[%d]: contains a zero byte", i)
		}
	}
	for i, a := range p.Args {
		if strings.ContainsRune(a, 0) {
			fault("process.args[%d]: contains a zero byte", i)
		}
	}
	for i, r := range p.Rlimits {
		if _, ok := rlimits[r.Type]; !ok {
			fault("process.rlimits[%d]: unknown type %q", i, r.Type)
		}
		if r.Soft > r.Hard {
			fault("process.rlimits[%d]: soft limit %d is above the hard limit %d", i, r.Soft, r.Hard)
		}
	}
	// -1 means "leave as it is" to setresuid(2), so it can be nobody's id.
	if p.User.UID == 1<<32-1 || p.User.GID == 1<<32-1 {
		fault("process.user: id 4294967295 cannot be used")
	}
	// Neither is applied yet. A label that is asked for and not applied would be a hole, so it is refused.
	if p.ApparmorProfile != "" && p.ApparmorProfile != "unconfined" {
		fault("process.apparmorProfile: AppArmor profiles are not supported, so %q cannot be applied", p.ApparmorProfile)
	}
	if p.SelinuxLabel != "" {
		fault("process.selinuxLabel: SELinux labels are not supported, so %q cannot be applied", p.SelinuxLabel)
	}
	return errors.Join(faults...)
}

// limits sets the resource limits of process pid, 0 for the caller, and its place in the order of the OOM killer. What
// the machine refuses (CAP_SYS_RESOURCE may be missing) is set as far as it goes and reported as a warning.
func limits(p *specs.Process, pid int) (warnings []string, err error) {
	dir := "/proc/thread-self"
	if pid != 0 {
		dir = "/proc/" + strconv.Itoa(pid)
	}
	if p.OOMScoreAdj != nil {
		if err := writeProc(dir+"/oom_score_adj", strconv.Itoa(*p.OOMScoreAdj)); errors.Is(err, unix.EACCES) {
			warnings = append(warnings, fmt.Sprintf("oom_score_adj %d is refused by the kernel", *p.OOMScoreAdj))
		} else if err != nil {
			return nil, err
		}
	}
	for _, r := range p.Rlimits {
		want := unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		err := unix.Prlimit(pid, rlimits[r.Type], &want, nil)
		if errors.Is(err, unix.EPERM) {
			var have unix.Rlimit
			if err := unix.Prlimit(pid, rlimits[r.Type], nil, &have); err != nil {
				return nil, fmt.Errorf("get %s: %w", r.Type, err)
			}
			warnings = append(warnings, fmt.Sprintf("%s %d is above the hard limit here, %d, which stays", r.Type, r.Hard, have.Max))
			want.Max = min(want.Max, have.Max)
			want.Cur = min(want.Cur, want.Max)
			err = unix.Prlimit(pid, rlimits[r.Type], &want, nil)
		}
		if err != nil {
			return nil, fmt.Errorf("set %s: %w", r.Type, err)
		}
	}
	return warnings, nil
}

func writeProc(name, value string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if !onFS(fd, unix.PROC_SUPER_MAGIC) {
		return errs.New(errs.Denied, "%s is not on procfs", name)
	}
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// become takes on the user, the groups and the capabilities. All of it is the calling thread's alone, which is the one that
// executes the program; the others end then.
func become(p *specs.Process, caps capSets, bounding uint64) error {
	if p.User.Umask != nil {
		unix.Umask(int(*p.User.Umask))
	} else {
		unix.Umask(0o022)
	}
	if err := dropBounding(bounding); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := setGroups(p.User.AdditionalGids); err != nil {
		return err
	}
	gid, uid := uintptr(p.User.GID), uintptr(p.User.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("set group %d: %w", gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("set user %d: %w", uid, errno)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := chdir(p.Cwd); err != nil {
		return err
	}
	return setCaps(caps)
}

// setGroups sets the thread's supplementary groups; none at all is as much an answer as some. A user namespace may forbid it.
func setGroups(gids []uint32) error {
	var first uintptr
	if len(gids) > 0 {
		first = uintptr(unsafe.Pointer(&gids[0]))
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(gids)), first, 0)
	if errno == unix.EPERM && len(gids) == 0 {
		if deny, err := os.ReadFile("/proc/self/setgroups"); err == nil && strings.TrimSpace(string(deny)) == "deny" {
			return nil
		}
	}
	if errno != 0 {
		return fmt.Errorf("set supplementary groups: %w", errno)
	}
	return nil
}

// chdir enters cwd and makes sure that it is inside the root: through a leaked descriptor, /proc/self/fd/N, a cwd could
// lie on the host's side of the pivot (CVE-2024-21626). getcwd then answers "(unreachable)…".
func chdir(cwd string) error {
	if err := unix.Chdir(cwd); err != nil {
		return errs.New(errs.Invalid, "chdir to cwd (%q) set in config.json failed: %w", cwd, err)
	}
	buf := make([]byte, unix.PathMax+1)
	n, err := unix.Getcwd(buf)
	if err != nil || n == 0 || buf[0] != '/' {
		return errs.New(errs.Denied, "current working directory is outside of container mount namespace root: %q", cwd)
	}
	return nil
}

// lookPath finds the program as execvp(3) would, with the process's own PATH, for the thread's present user. The texts are the ones
// that people know from other runtimes.
func lookPath(name string, env []string) (string, error) {
	executable := func(file string) error {
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return unix.EISDIR
		}
		if err := unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS); err != nil && err != unix.ENOSYS {
			return err
		}
		if st.Mode&0o111 == 0 {
			return unix.EACCES
		}
		return nil
	}
	if strings.Contains(name, "/") {
		err := executable(name)
		switch {
		case err == nil:
			return name, nil
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			return "", errs.New(errs.NotFound, "exec: %q: stat %s: %w", name, name, err)
		case errors.Is(err, unix.EISDIR):
			return "", errs.New(errs.Denied, "exec: %q: is a directory: %w", name, unix.EACCES)
		}
		return "", errs.New(errs.Denied, "exec: %q: %w", name, err)
	}
	denied := false
	for _, dir := range strings.Split(pathOf(env), ":") {
		if dir == "" {
			dir = "."
		}
		file := path.Join(dir, name)
		if !strings.Contains(file, "/") {
			file = "./" + file
		}
		err := executable(file)
		if err == nil {
			return file, nil
		}
		denied = denied || errors.Is(err, unix.EACCES)
	}
	if denied {
		return "", errs.New(errs.Denied, "exec: %q: permission denied", name)
	}
	return "", errs.New(errs.NotFound, "exec: %q: executable file not found in $PATH", name)
}

func pathOf(env []string) string {
	found := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			found = v
		}
	}
	return found
}

// execError gives the failure of execve(2) the kind that callers turn into exit status 127 or 126.
func execError(file string, err error) error {
	kind := errs.Denied
	if errors.Is(err, unix.ENOENT) {
		kind = errs.NotFound
	}
	return errs.New(kind, "exec %s: %w", file, err)
}
