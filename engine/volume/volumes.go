// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"log/slog"

	"github.com/knarr/knarr/internal/errs"
)

// Config says where the volumes are.
type Config struct {
	Dir string       // made if missing
	Log *slog.Logger // default: none
}

// Volumes is every volume of one instance.
type Volumes struct{}

var errSoon = errs.New(errs.Unsupported, "volumes are being built") // replaced by the next commit

// Open reads the volumes and finishes interrupted removals.
func Open(cfg Config) (*Volumes, error) { return nil, errSoon }

// Create makes a volume, or returns the one of that name if it is there already (as Docker does); another driver is
// errs.Conflict. An empty name makes an anonymous volume with a random name of 64 hexadecimal digits.
func (v *Volumes) Create(name, driver string, labels, opts map[string]string) (Volume, error) {
	return Volume{}, errSoon
}

// Get returns a volume, or errs.NotFound.
func (v *Volumes) Get(name string) (Volume, error) { return Volume{}, errSoon }

// List returns all volumes, by name.
func (v *Volumes) List() []Volume { return nil }

// Path returns the folder to mount, or errs.NotFound.
func (v *Volumes) Path(name string) (string, error) { return "", errSoon }

// Remove removes a volume that nobody uses; in use is errs.Conflict.
func (v *Volumes) Remove(name string) error { return errSoon }

// Acquire says that user (a container's id) uses the volume. Saying it again changes nothing.
func (v *Volumes) Acquire(name, user string) error { return errSoon }

// Release takes back what Acquire said. Unknown volume or user is no error.
func (v *Volumes) Release(name, user string) {}

// Users lists who uses a volume.
func (v *Volumes) Users(name string) []string { return nil }

// CopyUp fills a volume that was never populated from path inside rootfs (the container's root as mounted or an
// image's): owner, mode, times, xattrs, links, hard links, devices. The volume's own folder takes the owner and mode of
// path. A path that is missing or no folder copies nothing.
func (v *Volumes) CopyUp(name, rootfs, path string) error { return errSoon }
