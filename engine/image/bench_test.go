// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkSnapshot is what a container's start and end ask of the store; volatile, without the wait for the disk.
func BenchmarkSnapshot(b *testing.B) {
	b.Run("durable", func(b *testing.B) { benchSnapshot(b, false) })
	b.Run("volatile", func(b *testing.B) { benchSnapshot(b, true) })
}

func benchSnapshot(b *testing.B, volatile bool) {
	needRoot(b)
	s := openStore(b, b.TempDir())
	img := load(b, s, dockerArchive(b, "web", baseLayers(b)...))
	dir := b.TempDir()
	var i int
	for b.Loop() {
		i++
		key := fmt.Sprint("c", i)
		if _, err := s.Prepare(b.Context(), key, img, InitFiles{Volatile: volatile, Hosts: []byte("h"), ResolvConf: []byte("r"), Hostname: []byte("n")}); err != nil {
			b.Fatal(err)
		}
		if err := s.Mount(key, dir); err != nil {
			b.Fatal(err)
		}
		if err := s.Unmount(dir); err != nil {
			b.Fatal(err)
		}
		if err := s.RemoveSnapshot(key); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareOverlay is the kernel's part of it.
func BenchmarkBareOverlay(b *testing.B) {
	needRoot(b)
	base := b.TempDir()
	for _, d := range []string{"l", "u", "w", "m"} {
		if err := unix.Mkdir(base+"/"+d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := unix.Mount("overlay", base+"/m", "overlay", 0, "lowerdir="+base+"/l,upperdir="+base+"/u,workdir="+base+"/w"); err != nil {
			b.Fatal(err)
		}
		if err := unix.Unmount(base+"/m", 0); err != nil {
			b.Fatal(err)
		}
	}
}
