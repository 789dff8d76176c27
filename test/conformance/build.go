// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are what is built, by the go command from the modules of go.mod.
var programs = []struct {
	name string
	args []string
}{
	{"e2e.test", []string{"test", "-c", "-ldflags", "-s -w"}},
	{"ginkgo", []string{"build"}},
	{"agnhost", []string{"build", "-ldflags", "-s -w"}},
	{"nnp", []string{"build", "-ldflags", "-s -w"}},
	{"etcd", []string{"build", "-ldflags", "-s -w"}},
	{"sample-apiserver", []string{"build", "-ldflags", "-s -w"}},
}

func packageOf(program string) string {
	switch program {
	case "e2e.test":
		return "k8s.io/kubernetes/test/e2e"
	case "ginkgo":
		return "github.com/onsi/ginkgo/v2/ginkgo"
	case "etcd":
		return "go.etcd.io/etcd/server/v3"
	case "sample-apiserver":
		return "k8s.io/sample-apiserver"
	case "nnp":
		return "k8s.io/kubernetes/test/images/nonewprivs"
	}
	return "k8s.io/kubernetes/test/images/" + program
}

// buildPrograms builds what the cache lacks.
func buildPrograms(ctx context.Context, cache string) error {
	for _, p := range programs {
		out := filepath.Join(cache, p.name)
		if _, err := os.Stat(out); err == nil {
			continue
		}
		fmt.Println("building", p.name)
		cmd := exec.CommandContext(ctx, "go", append(p.args, "-trimpath", "-o", out, packageOf(p.name))...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", p.name, err)
		}
	}
	return nil
}
