// SPDX-License-Identifier: Apache-2.0

// Package layer turns layer tars into directories and directories into layer tars.
//
// Unpack writes a tar below a directory, Pack and Diff write one from a directory. In the directory a layer has overlayfs'
// form: a removed name is a character device 0:0, a directory that hides the ones below it has the extended attribute
// trusted.overlay.opaque; in the tar it has OCI's form: ".wh.name" and ".wh..wh..opq" (image-spec, layer.md).
//
// The bytes of a tar are hostile: names never leave the directory, every count and size is bounded by Limits, attributes
// that would steer the kernel's overlay (trusted.*, user.overlay.*) are dropped. Owner, mode, time in seconds, hard links,
// devices, security.capability and user.* attributes are kept.
//
// Pack is deterministic: equal trees give equal bytes, also after Unpack. Format says which writer made them; the digest of
// a layer that was made here can therefore be had again from its directory, and no second copy is stored.
//
// It knows no image, digest or store, keeps no state and starts no goroutine.
package layer

// Format is the version of the bytes Pack writes. Change the writer's output only together with it, and keep the old one.
const Format = 1

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	metaPrefix     = ".wh..wh." // aufs' own bookkeeping; never content
	opaqueXattr    = "trusted.overlay.opaque"
	capXattr       = "security.capability"
	paxXattr       = "SCHILY.xattr."
)

// Limits bound what one tar may make. A zero field means the default.
type Limits struct {
	Entries int64 // headers in one tar; default 4 Mi
	Bytes   int64 // of file content; default 256 GiB
	Path    int   // bytes in one name or link target; default 4096
	Depth   int   // elements in one name; default 512
	Reserve int64 // bytes that must stay free on the file system; default 128 MiB
}

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Entries, 4<<20)
	def(&l.Bytes, 256<<30)
	def(&l.Reserve, 128<<20)
	if l.Path == 0 {
		l.Path = 4096
	}
	if l.Depth == 0 {
		l.Depth = 512
	}
	return l
}
