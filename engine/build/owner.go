// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// maxAccounts bounds /etc/passwd and /etc/group of an image: a 10 GB one must not fill the daemon's memory.
const maxAccounts = 4 << 20

// parseOwner reads "user[:group]", names or numbers; names are looked up in root's own files. A missing group is the
// user's word taken as a group, as Docker documents.
func parseOwner(root *inroot.Dir, chown string) (ownership, error) {
	var o ownership
	if chown == "" {
		return o, nil
	}
	usr, grp, both := strings.Cut(chown, ":")
	if !both {
		grp = usr
	}
	var err error
	if o.uid, err = parseID(usr, func(name string) (int, error) { return lookupUser(root, name) }); err != nil {
		return o, err
	}
	o.gid, err = parseID(grp, func(name string) (int, error) { return lookupGroup(root, name) })
	return o, err
}

func parseID(s string, lookup func(string) (int, error)) (int, error) {
	if s == "" {
		return 0, errs.New(errs.Invalid, "empty user or group")
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) || err == nil && n >= 1<<32-1 {
		return 0, errs.New(errs.Invalid, "user or group %s is out of range", s)
	}
	if err == nil {
		return int(n), nil
	}
	return lookup(s)
}

func lookupUser(root *inroot.Dir, name string) (int, error) {
	f, err := openAccounts(root, "/etc/passwd")
	if err != nil {
		return 0, fmt.Errorf("find user %q: %w", name, err)
	}
	defer f.Close()
	list, err := user.ParsePasswdFilter(f, func(u user.User) bool { return u.Name == name })
	if err != nil {
		return 0, fmt.Errorf("find user %q: /etc/passwd of the image: %w", name, err)
	}
	if len(list) == 0 {
		return 0, errs.New(errs.Invalid, "unable to find user %s: no matching entry in the image's /etc/passwd", name)
	}
	return list[0].Uid, nil
}

func lookupGroup(root *inroot.Dir, name string) (int, error) {
	f, err := openAccounts(root, "/etc/group")
	if err != nil {
		return 0, fmt.Errorf("find group %q: %w", name, err)
	}
	defer f.Close()
	list, err := user.ParseGroupFilter(f, func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, fmt.Errorf("find group %q: /etc/group of the image: %w", name, err)
	}
	if len(list) == 0 {
		return 0, errs.New(errs.Invalid, "unable to find group %s: no matching entry in the image's /etc/group", name)
	}
	return list[0].Gid, nil
}

func openAccounts(root *inroot.Dir, name string) (io.ReadCloser, error) {
	f, err := root.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.Invalid, "the image has no %s; use numbers", name)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() > maxAccounts) {
		err = errs.New(errs.TooLarge, "%s of the image is no file of at most %d bytes", name, maxAccounts)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
