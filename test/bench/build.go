// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// builds measures a Dockerfile of FROM and ten RUN lines: every step run, and every step cached.
func (b *bench) builds(rounds int) error {
	dir := filepath.Join(b.data, "steps")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var file strings.Builder
	file.WriteString("FROM payload\n")
	for n := range 10 {
		fmt.Fprintf(&file, "RUN [\"/payload\", \"write\", \"/f%d\", \"x\"]\n", n)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file.String()), 0o644); err != nil {
		return err
	}
	var cold, cached []time.Duration
	for range rounds {
		d, err := b.time("knarr", "build", "-q", "--no-cache", dir)
		if err != nil {
			return err
		}
		cold = append(cold, d)
	}
	for range rounds * 2 {
		d, err := b.time("knarr", "build", "-q", dir)
		if err != nil {
			return err
		}
		cached = append(cached, d)
	}
	print("knarr build of FROM and 10 RUN, nothing cached", median(cold), "aim 500 ms")
	print("the same, all cached", median(cached), "aim 20 ms")
	return nil
}
