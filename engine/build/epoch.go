// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// epochArg is the build argument of reproducible-builds.org: seconds since 1970. With it, no date of an image is the build's
// own: config and history have it, and files of new layers are not younger.
const epochArg = "SOURCE_DATE_EPOCH"

func parseEpoch(args map[string]string) (*time.Time, error) {
	text := args[epochArg]
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return nil, errs.New(errs.Invalid, "%s=%s: want seconds since 1970", epochArg, text)
	}
	t := time.Unix(n, 0).UTC()
	return &t, nil
}

// now is what a new image says of its making.
func (e *execution) now() time.Time {
	if e.epoch != nil {
		return *e.epoch
	}
	return time.Now().UTC()
}

// clampTimes makes nothing in a layer younger than epoch.
func clampTimes(dir string, epoch time.Time) error {
	root, err := inroot.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return clampBelow(root, unix.Timespec{Sec: epoch.Unix()})
}

func clampBelow(d *inroot.Dir, ts unix.Timespec) error {
	names, err := layer.ReadNames(d)
	if err != nil {
		return err
	}
	for _, n := range names {
		st, err := d.LstatAt(n)
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			sub, err := d.SubNoFollow(n)
			if err != nil {
				return err
			}
			err = clampBelow(sub, ts)
			sub.Close()
			if err != nil {
				return err
			}
		}
		if st.Mtim.Sec < ts.Sec {
			continue
		}
		if err := unix.UtimesNanoAt(d.Fd(), n, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}
