// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/inroot"
)

// File is one file of a volume that is filled from the API.
type File struct {
	Data []byte
	Mode uint32 // permission bits
	UID  int    // owner
}

const (
	dataLink = "..data"
	dataNew  = "..data_tmp"
)

// versions are the names of the folders that ..data points to. Only what matches is ever read through or removed.
var versions = regexp.MustCompile(`^\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+$`)

// writeFiles makes dir show exactly files, which a reader sees change all at once: they are written to a fresh folder, and
// then the link ..data is swapped. Nothing happens when they are there already. gid, if not nil, may read them.
func writeFiles(dir string, files map[string]File, gid *int64, now time.Time) error {
	for name := range files {
		if err := checkName(name); err != nil {
			return err
		}
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old := currentVersion(root)
	if old != "" && same(root, old, files, gid) {
		return link(root, files) // a crash may have come between swap and links
	}
	fresh := now.UTC().Format("..2006_01_02_15_04_05.") + fmt.Sprintf("%09d", now.Nanosecond())
	if err := writeVersion(root, fresh, files, gid); err != nil {
		return errors.Join(err, root.RemoveAllAt(fresh))
	}
	if err := swap(root, fresh); err != nil {
		return err
	}
	if err := link(root, files); err != nil {
		return err
	}
	return sweep(root, fresh, files)
}

func checkName(name string) error {
	switch {
	case !filepath.IsLocal(name), path.Clean(name) != name, strings.HasPrefix(name, ".."):
		return fmt.Errorf("%q is not a path below the volume", name)
	}
	return nil
}

// currentVersion is what ..data points to, or "" if it is missing or not one of ours.
func currentVersion(root *inroot.Dir) string {
	buf := make([]byte, 128)
	n, err := unix.Readlinkat(root.Fd(), dataLink, buf)
	if err != nil || !versions.Match(buf[:n]) {
		return ""
	}
	return string(buf[:n])
}

// same compares what is on disk with what is wanted.
func same(root *inroot.Dir, version string, files map[string]File, gid *int64) bool {
	dir, err := root.SubNoFollow(version)
	if err != nil {
		return false
	}
	defer dir.Close()
	for name, want := range files {
		f, err := dir.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return false
		}
		ok := sameFile(f, want, gid)
		f.Close()
		if !ok {
			return false
		}
	}
	return countFiles(filepath.Join("/proc/self/fd", fmt.Sprint(dir.Fd()))) == len(files)
}

func sameFile(f *os.File, want File, gid *int64) bool {
	st, err := f.Stat()
	if err != nil || st.Size() != int64(len(want.Data)) || uint32(st.Mode().Perm()) != modeFor(want, gid) {
		return false
	}
	data := make([]byte, len(want.Data))
	if _, err := f.ReadAt(data, 0); err != nil && len(data) > 0 {
		return false
	}
	return string(data) == string(want.Data)
}

func countFiles(dir string) (n int) {
	entries, _ := os.ReadDir(dir) // unreadable: counts as different
	for _, e := range entries {
		if e.IsDir() {
			n += countFiles(filepath.Join(dir, e.Name()))
		} else {
			n++
		}
	}
	return n
}

// modeFor lets the pod's group read.
func modeFor(f File, gid *int64) uint32 {
	mode := f.Mode & 0o777
	if gid != nil {
		mode |= 0o440
	}
	return mode
}

func writeVersion(root *inroot.Dir, version string, files map[string]File, gid *int64) error {
	own := func(d *inroot.Dir, _ string) error { return ownDir(d.Fd(), gid) }
	dir, err := root.MkdirAll(version, 0o755, own)
	if err != nil {
		return err
	}
	defer dir.Close()
	for name, f := range files {
		if parent := path.Dir(name); parent != "." {
			d, err := dir.MkdirAll(parent, 0o755, own)
			if err != nil {
				return err
			}
			d.Close()
		}
		if err := writeFile(dir, name, f, gid); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func writeFile(dir *inroot.Dir, name string, f File, gid *int64) error {
	out, err := dir.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.Write(f.Data); err != nil {
		return err
	}
	group := -1
	if gid != nil {
		group = int(*gid)
	}
	if f.UID != 0 || group >= 0 {
		if err := out.Chown(f.UID, group); err != nil {
			return err
		}
	}
	return unix.Fchmod(int(out.Fd()), modeFor(f, gid))
}

// swap makes ..data point to version, atomically.
func swap(root *inroot.Dir, version string) error {
	if err := root.RemoveAllAt(dataNew); err != nil {
		return err
	}
	if err := unix.Symlinkat(version, root.Fd(), dataNew); err != nil {
		return err
	}
	err := unix.Renameat(root.Fd(), dataNew, root.Fd(), dataLink)
	if errors.Is(err, unix.EISDIR) { // somebody made it a folder
		if err = root.RemoveAllAt(dataLink); err == nil {
			err = unix.Renameat(root.Fd(), dataNew, root.Fd(), dataLink)
		}
	}
	return err
}

// tops are the first elements of the files' names: what is seen in the volume.
func tops(files map[string]File) []string {
	var out []string
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		if !slices.Contains(out, top) {
			out = append(out, top)
		}
	}
	return out
}

// link makes top -> ..data/top for what is not there yet.
func link(root *inroot.Dir, files map[string]File) error {
	for _, top := range tops(files) {
		want := dataLink + "/" + top
		buf := make([]byte, len(want)+1)
		if n, err := unix.Readlinkat(root.Fd(), top, buf); err == nil && string(buf[:n]) == want {
			continue
		}
		if err := root.RemoveAllAt(top); err != nil {
			return err
		}
		if err := unix.Symlinkat(want, root.Fd(), top); err != nil {
			return fmt.Errorf("link %s: %w", top, err)
		}
	}
	return nil
}

// sweep removes every name that is not wanted: old versions, links of keys that went.
func sweep(root *inroot.Dir, version string, files map[string]File) error {
	keep := append(tops(files), version, dataLink)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			if err := root.RemoveAllAt(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}
