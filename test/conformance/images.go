// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// recipe is one image: images/<name>/Dockerfile with files of the cache, of the machine or of the modules beside it.
type recipe struct {
	name  string
	cache []string // programs of the cache
	files []string // of the tests' own image folders, below test/images
}

// recipes in the order in which one needs another.
var recipes = []recipe{
	{name: "debian", cache: []string{"rootfs.tar"}},
	{name: "busybox", cache: []string{"busybox"}},
	{name: "agnhost", cache: []string{"agnhost"}, files: []string{"agnhost/porter/localhost.crt", "agnhost/porter/localhost.key"}},
	{name: "pause", cache: []string{"agnhost"}},
	{name: "nginx"},
	{name: "nonroot"},
	{name: "kitten", files: []string{"kitten/html"}},
	{name: "nautilus", files: []string{"nautilus/html"}},
	{name: "nonewprivs", cache: []string{"nnp"}},
	{name: "etcd", cache: []string{"etcd"}},
	{name: "sample-apiserver", cache: []string{"sample-apiserver"}},
}

// makeImages builds the images on the server, under every name that the tests use, and takes them to the agent.
func makeImages(ctx context.Context, o options, c *cluster) error {
	if err := fetch(ctx, o.cache); err != nil {
		return err
	}
	wanted, err := wantedNames(ctx, o.cache)
	if err != nil {
		return err
	}
	var all []string
	for _, r := range recipes {
		names := append([]string{"conformance-" + r.name}, wanted[r.name]...)
		if err := r.build(ctx, o, c, names); err != nil {
			return fmt.Errorf("make image %s: %w", r.name, err)
		}
		all = append(all, names...)
	}
	archive := filepath.Join(c.dir, "images.tar")
	if _, err := c.server.knarr(ctx, append([]string{"--host", c.server.socket(), "save", "-o", archive}, all...)...); err != nil {
		return err
	}
	defer os.Remove(archive)
	_, err = c.agent.knarr(ctx, "--host", c.agent.socket(), "load", "-i", archive)
	return err
}

// wantedNames asks the tests which images they use, by the last part of the name.
func wantedNames(ctx context.Context, cache string) (map[string][]string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(cache, "e2e.test"), "--list-images").Output()
	if err != nil {
		return nil, fmt.Errorf("ask the tests for their images: %w", err)
	}
	names := map[string][]string{}
	for _, ref := range strings.Fields(string(out)) {
		if strings.Contains(ref, "authenticated") || strings.Contains(ref, "/invalid/") {
			continue // named by tests of pulls that must fail
		}
		base, _, _ := strings.Cut(path.Base(ref), ":")
		names[base] = append(names[base], ref)
	}
	return names, nil
}

func (r recipe) build(ctx context.Context, o options, c *cluster, names []string) error {
	dir, err := os.MkdirTemp(c.dir, "context-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyTree(filepath.Join(o.root, "test", "conformance", "images", r.name), dir); err != nil {
		return err
	}
	for _, f := range r.cache {
		if err := os.Link(filepath.Join(o.cache, f), filepath.Join(dir, f)); err != nil {
			if err := copyFile(filepath.Join(o.cache, f), filepath.Join(dir, f)); err != nil {
				return err
			}
		}
	}
	tests, err := moduleDir(ctx, "k8s.io/kubernetes")
	if err != nil {
		return err
	}
	for _, f := range r.files {
		if err := copyTree(filepath.Join(tests, "test", "images", f), filepath.Join(dir, path.Base(f))); err != nil {
			return err
		}
	}
	args := []string{"--host", c.server.socket(), "build", "-q"}
	for _, n := range names {
		args = append(args, "-t", n)
	}
	_, err = c.server.knarr(ctx, append(args, dir)...)
	return err
}

func moduleDir(ctx context.Context, module string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	return strings.TrimSpace(string(out)), err
}

// debianPackages are what the tests call inside agnhost and nginx.
const debianPackages = "nginx-light,bind9-dnsutils,iproute2,curl,netcat-openbsd,ca-certificates,procps,iputils-ping"

// fetch brings what comes from Debian into the cache.
func fetch(ctx context.Context, cache string) error {
	if err := copyFile("/bin/busybox", filepath.Join(cache, "busybox")); err != nil {
		return fmt.Errorf("busybox-static must be installed: %w", err)
	}
	tar := filepath.Join(cache, "rootfs.tar")
	if _, err := os.Stat(tar); err == nil {
		return nil
	}
	fmt.Println("making a Debian root file system")
	mirror, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return fmt.Errorf("ask apt for its mirror: %w", err)
	}
	first, _, _ := strings.Cut(string(mirror), "\n")
	dir, err := os.MkdirTemp(cache, "rootfs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+debianPackages, "stable", dir, first)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap (must be installed): %w\n%s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "tar", "-C", dir, "--exclude=./dev/*", "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "-cf", tar+".part", ".").CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, out)
	}
	return os.Rename(tar+".part", tar)
}

func copyTree(from, to string) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return copyFile(from, to)
	}
	return os.CopyFS(to, os.DirFS(from))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, st.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
