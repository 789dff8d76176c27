// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/spf13/cobra"
)

func (e *env) build() *cobra.Command {
	var o client.ImageBuildOptions
	var args, labels []string
	var quiet bool
	cmd := &cobra.Command{
		Use: "build [flags] FOLDER", Short: "Build an image from a Dockerfile", Args: exactly("a folder"),
		Long: "Build an image from a Dockerfile. It is at once what pods run: no registry, no load step.\n" +
			"The folder is sent to the daemon without what its .dockerignore names; - reads a tar, or a Dockerfile alone, from stdin.",
		Example: "  knarr build -t web .\n  knarr build -f Dockerfile.dev --build-arg VERSION=2 -t web:dev .",
		RunE: func(cmd *cobra.Command, pos []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if o.Labels, err = keyValues("--label", labels); err != nil {
				return usageError{err}
			}
			o.BuildArgs = map[string]*string{}
			for _, a := range args {
				k, v, ok := strings.Cut(a, "=")
				if !ok {
					v, ok = os.LookupEnv(k)
				}
				if ok {
					o.BuildArgs[k] = &v
				}
			}
			o.Version, o.Remove = build.BuilderV1, true
			if o.AuthConfigs, err = allAuths(cmd.Context()); err != nil {
				return err
			}
			if o.Dockerfile, err = dockerfileIn(pos[0], o.Dockerfile); err != nil {
				return err
			}
			context, err := e.buildContext(pos[0], o.Dockerfile)
			if err != nil {
				return err
			}
			defer context.Close()
			res, err := c.ImageBuild(cmd.Context(), context, o)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			var id string
			show := *e
			if quiet {
				show.err = io.Discard
			}
			if err := show.show(res.Body, func(aux json.RawMessage) {
				var v struct{ ID string }
				if json.Unmarshal(aux, &v) == nil && v.ID != "" {
					id = v.ID
				}
			}); err != nil {
				return err
			}
			if quiet {
				fmt.Fprintln(e.out, id)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.Tags, "tag", "t", nil, "NAME[:TAG]; may be given more than once")
	f.StringVarP(&o.Dockerfile, "file", "f", "", "the Dockerfile (default FOLDER/Dockerfile)")
	f.StringArrayVar(&args, "build-arg", nil, "KEY=VALUE")
	f.StringArrayVar(&labels, "label", nil, "KEY=VALUE")
	f.StringVar(&o.Target, "target", "", "the stage to build")
	f.StringVar(&o.NetworkMode, "network", "", "of RUN: default, none, host")
	f.BoolVar(&o.NoCache, "no-cache", false, "run every step again")
	f.BoolVar(&o.PullParent, "pull", false, "ask registries for newer base images")
	f.BoolVarP(&quiet, "quiet", "q", false, "print only the image's ID")
	return cmd
}

// dockerfileIn makes -f, which is relative to here as with docker, relative to the context. What is not here is looked for there.
func dockerfileIn(dir, file string) (string, error) {
	if file == "" || dir == "-" {
		return file, nil
	}
	if _, err := os.Stat(file); err != nil {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			return "", fmt.Errorf("no Dockerfile %s here or in %s", file, dir)
		}
		return filepath.ToSlash(file), nil
	}
	absDir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	absFile, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(absDir, absFile)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("the Dockerfile %s is not in the folder %s, which is all that is sent; give the folder that holds both", file, dir)
	}
	return filepath.ToSlash(rel), nil
}

// buildContext streams a folder as a tar, without what .dockerignore excludes.
func (e *env) buildContext(dir, dockerfile string) (io.ReadCloser, error) {
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
	if dockerfile == "" {
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
	compressed := bytes.HasPrefix(head, []byte{0x1f, 0x8b}) || bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd})
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
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
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
		m, err := patternmatcher.New(append(patterns, "!"+dockerfile, "!"+name))
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
