// SPDX-License-Identifier: Apache-2.0

// Package volumetest is what every volume plugin must pass, and a fake of what volumes are filled from.
//
// It needs root and mounts only below t.TempDir.
package volumetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kubelet/volume"
)

// FakeSources is a Sources of maps by "namespace/name". Change it between calls only.
type FakeSources struct {
	ConfigMaps map[string]*corev1.ConfigMap
	Secrets    map[string]*corev1.Secret
	Tokens     func(audience string) (string, time.Time, error)
	Node       corev1.ResourceList
}

func (s *FakeSources) ConfigMap(ns, name string) (*corev1.ConfigMap, bool) {
	c, ok := s.ConfigMaps[ns+"/"+name]
	return c, ok
}

func (s *FakeSources) Secret(ns, name string) (*corev1.Secret, bool) {
	c, ok := s.Secrets[ns+"/"+name]
	return c, ok
}

func (s *FakeSources) Token(_ context.Context, _ *corev1.Pod, audience string, _ int64) (string, time.Time, error) {
	return s.Tokens(audience)
}

func (s *FakeSources) Allocatable() corev1.ResourceList { return s.Node }

// Case is one volume with what is expected of it.
type Case struct {
	Source  corev1.VolumeSource
	Sources *FakeSources
	FSGroup *int64
	// Want are the files by path below the volume; nil: not filled from the API.
	Want map[string]string
	// Change changes the sources (may be nil), after which Then is expected.
	Change func(*FakeSources)
	Then   map[string]string
}

// Run checks the contract of the plugin that handles c.
func Run(t *testing.T, c Case) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { _ = volume.TearDown(dir) }) // before TempDir's own removal; a failure shows there
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			Volumes:         []corev1.Volume{{Name: "v", VolumeSource: c.Source}},
			Containers:      []corev1.Container{{Name: "c"}},
			SecurityContext: &corev1.PodSecurityContext{FSGroup: c.FSGroup},
		},
	}
	if c.Sources == nil {
		c.Sources = &FakeSources{}
	}
	setUp := func(what string) volume.Result {
		t.Helper()
		paths, _, err := volume.SetUp(t.Context(), pod, dir, c.Sources)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return paths["v"]
	}
	r := setUp("first SetUp")
	expect(t, "first", r.Path, c.Want)
	before := listing(t, r.Path)
	if again := setUp("second SetUp"); again.Path != r.Path {
		t.Errorf("second SetUp answers %s, the first %s", again.Path, r.Path)
	}
	if after := listing(t, r.Path); before != after {
		t.Errorf("second SetUp changed\n%s\nto\n%s", before, after)
	}
	if c.Change != nil {
		c.Change(c.Sources)
		setUp("SetUp after a change")
		expect(t, "after a change", r.Path, c.Then)
	}
	for _, what := range []string{"TearDown", "second TearDown"} {
		if err := volume.TearDown(dir); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if left := listing(t, dir); left != "" {
		t.Errorf("TearDown left\n%s", left)
	}
	setUp("SetUp after TearDown")
}

func expect(t *testing.T, when, dir string, want map[string]string) {
	t.Helper()
	if want == nil {
		return
	}
	seen := map[string]bool{}
	for path, content := range want {
		got, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil || string(got) != content {
			t.Errorf("%s: %s = %q, %v; want %q", when, path, got, err, content)
		}
		top, _, _ := strings.Cut(path, "/")
		seen[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !seen[e.Name()] && !strings.HasPrefix(e.Name(), "..") {
			t.Errorf("%s: %s is there and should not be", when, e.Name())
		}
	}
}

// listing is every name below dir with its size and mode.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if p != dir {
			b.WriteString(info.Mode().String() + " " + strings.TrimPrefix(p, dir) + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
