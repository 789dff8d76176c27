// SPDX-License-Identifier: Apache-2.0

// Package volume keeps named and anonymous local volumes: folders that outlive containers.
//
// It owns <Dir>/<name>/: volume.json (what the volume is) and _data/ (what a container mounts). A volume exists exactly when
// its volume.json does. Removal is a plan file first (<Dir>/.remove-<name>), so that a crash in between is finished by the
// next Open.
//
// A volume whose options say so (local driver: type, device, o, size) is mounted on its _data/ from the first Mount of a user to
// the last Unmount, in the host's mount namespace. Otherwise _data/ is a plain folder.
//
// It does not know containers: who uses a volume is told by Acquire and Release with an opaque
// user id (a container's), and the caller repeats Acquire for what it finds at its own start. Bind mounts of host paths
// are no volumes and never come here.
//
// CopyUp, which fills an empty volume from the image's folder, treats the root filesystem as hostile: every step is relative
// to an open folder (CVE-2022-23648), links are copied as links, and nothing is ever followed out of it. It copies to
// <Dir>/<name>/.copy first and puts that in place by a rename, so that a crash never leaves half of it.
//
// Invariants: _data/ is removed only when no user is known; a name is a plain file name. No goroutines. All methods may be
// called concurrently.
package volume

import "time"

// Volume is one volume.
type Volume struct {
	Version   int               `json:"version"` // of the file format: 1
	Name      string            `json:"name"`
	Driver    string            `json:"driver"` // local
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"` // made without a name: rm -v and --rm remove it
	Created   time.Time         `json:"created"`
}
