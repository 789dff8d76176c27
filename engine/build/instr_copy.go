// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

func checkCopy(cmd instructions.Command) error {
	c := cmd.(*instructions.CopyCommand)
	if len(c.SourceContents) > 0 && c.From != "" {
		return errs.New(errs.Invalid, "COPY --from cannot take a here-document")
	}
	return checkDest("COPY", &c.SourcesAndDest)
}

// checkDest refuses several sources without a directory to put them in; a variable may still hold the slash.
func checkDest(name string, sd *instructions.SourcesAndDest) error {
	if len(sd.SourcePaths)+len(sd.SourceContents) > 1 && !endsInDir(sd.DestPath) && !strings.Contains(sd.DestPath, "$") {
		return errs.New(errs.Invalid, "when using %s with more than one source file, the destination must be a directory and end with a /", name)
	}
	return nil
}

func endsInDir(dest string) bool {
	return strings.HasSuffix(dest, "/") || dest == "." || strings.HasSuffix(dest, "/.") || dest == ".."
}

func runCopy(ctx context.Context, r *stageRun, s Step) error {
	c := s.Cmd.(*instructions.CopyCommand)
	if err := checkDest("COPY", &c.SourcesAndDest); err != nil {
		return err
	}
	from, err := r.e.copySource(ctx, s.From)
	if err != nil {
		return err
	}
	if s.From != nil {
		defer from.close()
	}
	cp := copying{name: "COPY", sd: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, from: from, parents: c.Parents, exclude: c.ExcludePatterns}
	return cp.run(ctx, r, s)
}

// copySource is the context, or a stage's or an image's file system mounted read-only.
func (e *execution) copySource(ctx context.Context, from *Base) (*tree, error) {
	if from == nil {
		return e.source, nil
	}
	img, err := e.base(ctx, *from, "")
	if err != nil {
		return nil, err
	}
	dir, err := e.mountPoint()
	if err != nil {
		return nil, err
	}
	store := e.b.cfg.Images
	if err := store.MountReadOnly(img, dir); err != nil {
		return nil, err
	}
	release := func() {
		if err := store.Unmount(dir); err != nil {
			e.b.cfg.Log.Warn("build: cannot unmount", "dir", dir, "err", err)
			return
		}
		os.Remove(dir)
	}
	root, err := inroot.Open(dir)
	if err != nil {
		release()
		return nil, err
	}
	what := "image " + from.Image
	if from.Image == "" {
		what = fmt.Sprintf("stage %d %s", from.Stage, e.graph.Stages[from.Stage].Name)
	}
	return &tree{root: root, what: strings.TrimSpace(what), release: release}, nil
}

// copying is a COPY or an ADD.
type copying struct {
	name         string
	sd           instructions.SourcesAndDest
	chown, chmod string
	parents      bool
	exclude      []string
	from         *tree
	fetch        func(src string) (picked, bool, error) // ADD: what is no file of from; nil: everything is
	unpack       *bool                                  // ADD --unpack; nil: archives of the context, not those of URLs
	archives     bool                                   // ADD
}

// pickAll finds all sources.
func (c copying) pickAll() ([]picked, error) {
	var all []picked
	for _, p := range c.sd.SourcePaths {
		if c.fetch != nil {
			got, ok, err := c.fetch(p)
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, got)
				continue
			}
		}
		found, err := c.pick(c.from, p)
		if err != nil {
			return nil, fmt.Errorf("%s failed: %w", c.name, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func (c copying) run(ctx context.Context, r *stageRun, s Step) error {
	sources, err := c.pickAll()
	if err != nil {
		return err
	}
	if len(sources)+len(c.sd.SourceContents) > 1 && !endsInDir(c.sd.DestPath) {
		return errs.New(errs.Invalid, "%s failed: the sources match more than one file: the destination must be a directory and end with a /", c.name)
	}
	mode, err := parseMode(c.chmod)
	if err != nil {
		return err
	}
	content, err := c.digest(sources)
	if err != nil {
		return fmt.Errorf("%s failed: %w", c.name, err)
	}
	dest := r.path(c.sd.DestPath)
	text := fmt.Sprintf("%s %s in %s", c.name, contentName(content), c.sd.DestPath)
	key := r.key(c.name, dest, strconv.FormatBool(endsInDir(c.sd.DestPath)), c.chown, c.chmod, content)
	if r.cached(key) {
		return nil
	}
	return r.filesystem(ctx, key, text, image.InitFiles{None: true}, func(_, rootDir string) error {
		root, err := inroot.Open(rootDir)
		if err != nil {
			return err
		}
		defer root.Close()
		o, err := parseOwner(root, c.chown)
		if err != nil {
			return fmt.Errorf("%s --chown: %w", c.name, err)
		}
		o.mode = mode
		if err := c.apply(ctx, root, sources, dest, o); err != nil {
			return fmt.Errorf("%s failed: %w", c.name, err)
		}
		return nil
	})
}

// digest identifies all that is copied.
func (c copying) digest(sources []picked) (string, error) {
	h := sha256.New()
	for _, p := range sources {
		d, err := p.digestOf([]source{p.source})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %q %t\n", d, p.below, p.remote)
	}
	unpack := c.archives && (c.unpack == nil || *c.unpack)
	fmt.Fprintf(h, "%q %t %t", fmt.Sprint(c.sd.SourceContents), unpack, c.unpack != nil)
	return hex.EncodeToString(h.Sum(nil)), nil
}

func contentName(digest string) string { return "files:" + digest[:32] }

func (c copying) apply(ctx context.Context, root *inroot.Dir, sources []picked, dest string, o ownership) error {
	intoDir := endsInDir(c.sd.DestPath)
	if intoDir {
		if err := makeParents(root, dest, o); err != nil {
			return err
		}
	}
	for _, p := range sources {
		if c.unpacks(p) {
			done, err := p.addArchive(ctx, root, p.source, dest, c.chown != "", o)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		if err := p.copyInto(root, []source{p.source}, path.Join(dest, p.below), intoDir || c.parents, o); err != nil {
			return err
		}
	}
	for _, doc := range c.sd.SourceContents {
		if err := writeHeredoc(root, doc, dest, intoDir, o); err != nil {
			return err
		}
	}
	return nil
}

// unpacks says whether an archive becomes its content.
func (c copying) unpacks(p picked) bool {
	if c.unpack != nil {
		return *c.unpack
	}
	return c.archives && !p.remote
}

// writeHeredoc makes a file of a here-document: COPY <<name dest.
func writeHeredoc(root *inroot.Dir, doc instructions.SourceContent, dest string, intoDir bool, o ownership) error {
	if intoDir || isDirIn(root, dest) {
		dest = path.Join(dest, path.Base(doc.Path))
	}
	if err := makeParents(root, path.Dir(dest), o); err != nil {
		return err
	}
	parent, base, err := root.Parent(dest)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := parent.RemoveAllAt(base); err != nil {
		return err
	}
	f, err := createFile(parent, base)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(doc.Data); err != nil {
		return err
	}
	mode := uint32(0o644)
	if o.mode != nil {
		mode = *o.mode
	}
	if err := finishFile(f, o.uid, o.gid, mode); err != nil {
		return err
	}
	return f.Close()
}

func parseMode(chmod string) (*uint32, error) {
	if chmod == "" {
		return nil, nil
	}
	m, err := strconv.ParseUint(chmod, 8, 32)
	if err != nil || m > 0o7777 {
		return nil, errs.New(errs.Invalid, "invalid --chmod %q: want an octal mode such as 755", chmod)
	}
	mode := uint32(m)
	return &mode, nil
}
