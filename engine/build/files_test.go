// SPDX-License-Identifier: Apache-2.0

package build

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/knarr/knarr/engine/image"
)

// TestEveryFileIsDocumented runs the store and a builder and looks for files that docs/formats/engine-image.md does not name.
func TestEveryFileIsDocumented(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	img := w.simple("FROM busybox\nRUN echo x > /x\nWORKDIR /w\n", nil)
	if _, err := w.images.Prepare(t.Context(), "c1", img, image.InitFiles{Hosts: []byte("h")}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := w.images.Mount("c1", dir); err != nil {
		t.Fatal(err)
	}
	w.images.Unmount(dir)
	doc, err := os.ReadFile("../../docs/formats/engine-image.md")
	if err != nil {
		t.Fatal(err)
	}
	var known []*regexp.Regexp
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(doc), -1) {
		p := regexp.QuoteMeta(m[1])
		for from, to := range map[string]string{"<hex>": "[0-9a-f]{64}", "<key>": "[A-Za-z0-9._-]+", "<name>": "[0-9a-f]{32}-[A-Z2-7]{8}", "<number>": "[0-9]+", `/\*\*`: "/.*"} {
			p = strings.ReplaceAll(p, from, to)
		}
		known = append(known, regexp.MustCompile("^"+p+"$"))
	}
	if len(known) < 15 {
		t.Fatalf("only %d paths found in the document", len(known))
	}
	for _, root := range []string{w.images.Dir(), w.b.cfg.Dir} {
		err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			rel, _ := filepath.Rel(root, p)
			for _, k := range known {
				if k.MatchString(rel) {
					return nil
				}
			}
			t.Errorf("%s is not documented", rel)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
