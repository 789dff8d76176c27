// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/memory"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// gitRef is a repository as Docker writes it: URL#ref:subdir, or URL?ref=…&subdir=….
type gitRef struct{ url, ref, subdir string }

func parseGit(src string) (gitRef, error) {
	var g gitRef
	base, fragment, _ := strings.Cut(src, "#")
	g.url = base
	g.ref, g.subdir, _ = strings.Cut(fragment, ":")
	if addr, query, ok := strings.Cut(base, "?"); ok {
		values, err := url.ParseQuery(query)
		if err != nil {
			return g, errs.New(errs.Invalid, "%s: %w", src, err)
		}
		g.url = addr
		for key, into := range map[string]*string{"ref": &g.ref, "branch": &g.ref, "tag": &g.ref, "commit": &g.ref, "subdir": &g.subdir} {
			if v := values.Get(key); v != "" {
				*into = v
			}
		}
	}
	if strings.HasPrefix(g.url, "git@") || strings.HasPrefix(g.url, "ssh://") {
		return g, errs.New(errs.Unsupported, "%s: git over SSH is not supported in builds; use https, or clone in a RUN --mount=type=ssh", src)
	}
	return g, nil
}

// clone fetches one commit of a repository and writes its files as a source. The files are written by us, below a folder
// that nothing leads out of: a repository's names and links are as hostile as a tar's.
func (e *execution) clone(ctx context.Context, src string, keepGit bool, checksum string) (picked, error) {
	g, err := parseGit(src)
	if err != nil {
		return picked{}, err
	}
	dir, err := os.MkdirTemp(e.work, "git-")
	if err != nil {
		return picked{}, err
	}
	if err := checkout(ctx, g, dir, keepGit, checksum); err != nil {
		return picked{}, fmt.Errorf("git repository %s: %w", src, err)
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return picked{}, err
	}
	t := &tree{root: root, what: "git repository"}
	s, ok, err := t.collect(strings.Trim(g.subdir, "/"))
	if err == nil && !ok {
		err = t.notFound(g.subdir)
	}
	if err != nil {
		t.close()
	}
	return picked{tree: t, source: s, remote: true}, err
}

func checkout(ctx context.Context, g gitRef, dir string, keepGit bool, checksum string) error {
	o := git.CloneOptions{URL: g.url, NoCheckout: true, Depth: 1, SingleBranch: true, Tags: git.NoTags}
	named, err := findRef(ctx, g)
	if err != nil {
		return err
	}
	if o.ReferenceName = named; named == "" { // a commit: only a whole clone surely has it
		o.Depth, o.SingleBranch = 0, false
	}
	repo, err := git.PlainCloneContext(ctx, dir, false, &o)
	if err != nil {
		return errs.New(errs.Unavailable, "%w", err)
	}
	revision := "HEAD"
	if named == "" {
		revision = g.ref
	}
	hash, err := repo.ResolveRevision(plumbing.Revision(revision))
	if err != nil {
		return errs.New(errs.NotFound, "no branch, tag or commit %q", g.ref)
	}
	if checksum != "" && !strings.HasPrefix(hash.String(), strings.ToLower(checksum)) {
		return errs.New(errs.Invalid, "commit is %s, want %s", hash, checksum)
	}
	commit, err := repo.CommitObject(*hash)
	if err != nil {
		return err
	}
	files, err := commit.Tree()
	if err != nil {
		return err
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := writeTree(ctx, repo, root, files, commit.Committer.When.Unix(), 0); err != nil {
		return err
	}
	if !keepGit {
		return os.RemoveAll(filepath.Join(dir, ".git"))
	}
	w, err := repo.Worktree()
	if err != nil {
		return err
	}
	return w.Reset(&git.ResetOptions{Commit: *hash, Mode: git.MixedReset})
}

// findRef answers the full name of a branch or tag, or "" for what can only be a commit.
func findRef(ctx context.Context, g gitRef) (plumbing.ReferenceName, error) {
	if g.ref == "" {
		return plumbing.HEAD, nil
	}
	remote := git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{g.url}})
	refs, err := remote.ListContext(ctx, &git.ListOptions{})
	if err != nil {
		return "", errs.New(errs.Unavailable, "%w", err)
	}
	for _, want := range []string{g.ref, "refs/heads/" + g.ref, "refs/tags/" + g.ref} {
		for _, r := range refs {
			if r.Name().String() == want {
				return r.Name(), nil
			}
		}
	}
	return "", nil
}

// maxGitDepth bounds how deep a repository's folders may go.
const maxGitDepth = 256

func writeTree(ctx context.Context, repo *git.Repository, d *inroot.Dir, t *object.Tree, when int64, depth int) error {
	if depth > maxGitDepth {
		return errs.New(errs.TooLarge, "folders more than %d deep", maxGitDepth)
	}
	for _, entry := range t.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n := entry.Name; n == "" || n == "." || n == ".." || strings.EqualFold(n, ".git") || strings.ContainsAny(n, "/\x00") {
			return errs.New(errs.Invalid, "hostile name %q", n)
		}
		if err := writeEntry(ctx, repo, d, entry, when, depth); err != nil {
			return fmt.Errorf("%s: %w", entry.Name, err)
		}
	}
	return nil
}

func writeEntry(ctx context.Context, repo *git.Repository, d *inroot.Dir, entry object.TreeEntry, when int64, depth int) error {
	switch entry.Mode {
	case filemode.Dir:
		sub, err := repo.TreeObject(entry.Hash)
		if err != nil {
			return err
		}
		if err := unix.Mkdirat(d.Fd(), entry.Name, 0o755); err != nil {
			return err
		}
		below, err := d.SubNoFollow(entry.Name)
		if err != nil {
			return err
		}
		defer below.Close()
		return writeTree(ctx, repo, below, sub, when, depth+1)
	case filemode.Submodule:
		return unix.Mkdirat(d.Fd(), entry.Name, 0o755) // as git leaves it without --recurse-submodules
	}
	blob, err := repo.BlobObject(entry.Hash)
	if err != nil {
		return err
	}
	r, err := blob.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	if entry.Mode == filemode.Symlink {
		target, err := io.ReadAll(io.LimitReader(r, unix.PathMax))
		return errors.Join(err, unix.Symlinkat(string(target), d.Fd(), entry.Name))
	}
	f, err := createFile(d, entry.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	mode := uint32(0o644)
	if entry.Mode == filemode.Executable {
		mode = 0o755
	}
	ts := []unix.Timespec{{Sec: when}, {Sec: when}}
	if err := errors.Join(unix.Fchmod(int(f.Fd()), mode), unix.UtimesNanoAt(int(f.Fd()), "", ts, unix.AT_EMPTY_PATH)); err != nil {
		return err
	}
	return f.Close()
}
