// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// maxAccounts bounds what is read of a container's /etc/passwd and /etc/group: an image may bring any size.
const maxAccounts = 4 << 20

const maxAccountID = 1<<31 - 1

// lookupUser finds "user[:group]" and further groups, by name or number, in the accounts of the root file system. It answers
// the home directory too, "/" when the user has none. With only, the user's own groups but the first are left out.
func lookupUser(root *inroot.Dir, spec string, groups []string, only bool) (specs.User, string, error) {
	if fault := checkUser(spec); fault != nil {
		return specs.User{}, "", fault
	}
	passwd, err := readAccounts(root, "/etc/passwd")
	if err != nil {
		return specs.User{}, "", err
	}
	group, err := readAccounts(root, "/etc/group")
	if err != nil {
		return specs.User{}, "", err
	}
	found, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, "", errs.New(errs.Invalid, "user %q: %w", spec, err)
	}
	more, err := user.GetAdditionalGroups(groups, bytes.NewReader(group))
	if err != nil {
		return specs.User{}, "", errs.New(errs.Invalid, "groups %s: %w", strings.Join(groups, ","), err)
	}
	slices.Sort(more)
	if only {
		found.Sgids = nil
	}
	for _, id := range slices.Concat([]int{found.Uid, found.Gid}, found.Sgids, more) {
		if id < 0 || id > maxAccountID { // what the image's own files say wraps around as easily as what a user asks for
			return specs.User{}, "", errs.New(errs.Invalid, "user %q: the container's accounts give id %d, ids are between 0 and %d", spec, id, maxAccountID)
		}
	}
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	seen := map[int]bool{}
	for _, g := range append(append([]int{found.Gid}, found.Sgids...), more...) {
		if !seen[g] {
			seen[g] = true
			u.AdditionalGids = append(u.AdditionalGids, uint32(g))
		}
	}
	home := found.Home
	if !strings.HasPrefix(home, "/") || strings.ContainsRune(home, 0) {
		home = "/"
	}
	return u, home, nil
}

// checkUser refuses numbers that the kernel or a library would wrap around or take for "unchanged" (CVE-2024-40635's
// class), before any lookup: "4294967296" must not become root, and no such name can be meant.
func checkUser(spec string) error {
	if spec == "" {
		return nil
	}
	parts := strings.Split(spec, ":")
	if len(parts) > 2 {
		return errs.New(errs.Invalid, "user %q has more than one colon", spec)
	}
	for _, p := range parts {
		if strings.ContainsAny(p, "\x00\n") {
			return errs.New(errs.Invalid, "user %q holds a control character", spec)
		}
		digits := strings.TrimLeft(strings.TrimLeft(p, "+-"), "0123456789") == "" && p != ""
		if !digits {
			continue
		}
		if n, err := strconv.ParseUint(p, 10, 64); err != nil || n > maxAccountID {
			return errs.New(errs.Invalid, "user %q: ids are between 0 and %d", spec, maxAccountID)
		}
	}
	return nil
}

// readAccounts reads a small regular file inside the root, or nothing when there is none.
func readAccounts(root *inroot.Dir, name string) ([]byte, error) {
	f, err := root.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAccounts+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxAccounts {
		return nil, errs.New(errs.TooLarge, "the container's %s is larger than %d bytes", name, maxAccounts)
	}
	return text, nil
}
