// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// buildContext streams a folder as a tar, without what .dockerignore excludes. without says that the Dockerfile is elsewhere.
func (e *env) buildContext(dir, dockerfile string, without bool) (io.ReadCloser, error) {
	if dir == "-" {
		return e.stdinContext()
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, usageError{fmt.Errorf("%s is not a folder: the build's context is one", dir)}
	}
	if dockerfile == "" && !without {
		dockerfile = "Dockerfile"
		if _, err := os.Stat(filepath.Join(dir, dockerfile)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no Dockerfile in %s; name one with -f", dir)
		}
	}
	ignore, err := ignored(dir, dockerfile)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeContext(w, dir, ignore)) }()
	return r, nil
}

// stdinContext passes a tar on and wraps a bare Dockerfile into one.
func (e *env) stdinContext() (io.ReadCloser, error) {
	head := make([]byte, 512)
	n, err := io.ReadFull(e.in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	rest := io.MultiReader(bytes.NewReader(head), e.in)
	compressed := bytes.HasPrefix(head, []byte{0x1f, 0x8b}) || bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) || bytes.HasPrefix(head, []byte("BZh")) || bytes.HasPrefix(head, []byte("\xfd7zXZ\x00"))
	if compressed || len(head) == 512 && string(head[257:262]) == "ustar" {
		return io.NopCloser(rest), nil
	}
	text, err := io.ReadAll(io.LimitReader(rest, 1<<20))
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	t := tar.NewWriter(&buf)
	if err := t.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(text))}); err != nil {
		return nil, err
	}
	t.Write(text)
	return io.NopCloser(&buf), t.Close()
}

// ignored reads DOCKERFILE.dockerignore or .dockerignore; the two files themselves are always sent.
func ignored(dir, dockerfile string) (*patternmatcher.PatternMatcher, error) {
	names := []string{".dockerignore"}
	if dockerfile != "" {
		names = []string{dockerfile + ".dockerignore", ".dockerignore"}
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		patterns, err := ignorefile.ReadAll(f)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		m, err := patternmatcher.New(append(patterns, "!"+cmp.Or(dockerfile, name), "!"+name))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		return m, nil
	}
	return patternmatcher.New(nil)
}

func writeContext(w io.Writer, dir string, ignore *patternmatcher.PatternMatcher) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		skip, err := ignore.MatchesOrParentMatches(filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		if skip {
			if d.IsDir() && !ignore.Exclusions() {
				return filepath.SkipDir
			}
			return nil
		}
		return addToTar(t, path, filepath.ToSlash(rel), d)
	})
	if err != nil {
		return err
	}
	return t.Close()
}

// addToTar writes one file, folder or link. Sockets and the like are left out: no image can hold them.
func addToTar(t *tar.Writer, path, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	case !info.Mode().IsRegular() && !info.IsDir():
		return nil
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname = name, "", ""
	h.Uid, h.Gid = 0, 0 // files of a context belong to root, whoever's folder it is
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(t, f, info.Size()); err != nil {
		return fmt.Errorf("%s changed while it was read: %w", path, err)
	}
	return nil
}
