// SPDX-License-Identifier: Apache-2.0

// Package image is the node's image store: content, references, unpacked layers, and the snapshots containers run on.
//
// It owns everything below Config.Dir (docs/formats/engine-image.md lists each file): blobs by digest, one record per
// image, one unpacked directory per layer keyed by chainID, one folder per snapshot, and the table of names. It moves
// images in and out: Load, Save, Import, Pull, Push, Put, CommitSnapshot.
//
// It does not run anything, does not know containers (callers say what is in use), and follows no instruction found in an
// image: config, labels and layers are hostile data. No path of a layer or of a snapshot is ever resolved by the host's rules;
// every step is relative to a directory descriptor and cannot leave it (openat2 with RESOLVE_IN_ROOT or RESOLVE_BENEATH).
//
// Invariants: a blob's name is its digest, verified while it was written; a layer directory appears by rename once it is
// complete and on disk, and is never written again; an image record exists only if its config blob and all its layers do;
// a name points only to an existing image. An image that was built, loaded, imported or committed here has the local
// store as its origin (Image.Local). What several steps destroy is planned in a file first, and finished at the next Open.
//
// Goroutines: those of a running call, and one per snapshot whose space is being freed, which Close waits for. A Store may be used concurrently; mu guards the tables in memory, which mirror the files.
// Long work (unpack, download) runs outside mu, and the layers it needs are held against removal meanwhile.
package image
