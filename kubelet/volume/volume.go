// SPDX-License-Identifier: Apache-2.0

// Package volume sets pods' volumes up on the node, one file a plugin.
//
// A pod's volumes live below its folder, laid out as Kubernetes does:
//
//	<pod>/volumes/kubernetes.io~configmap/<name>/            ..data -> ..2026_11_22_10_00_00.123456789, key -> ..data/key
//	<pod>/volume-subpaths/<name>/<container>/<index>         what a subPath leads to, bound there
//
// It owns those folders and every mount in them, and nothing else. Taking them down needs no plugin and no pod object: all
// mounts below are unmounted, then the files removed without crossing a file system; so what a crash left goes too.
//
// What is below a volume may have been written by the pod and is hostile: every step is relative to a descriptor and
// refuses to leave the volume (openat2), so a link that changes in between wins nothing (CVE-2017-1002101, 2021-25741,
// 2017-1002102).
//
// Setting up is idempotent and doubles as bringing up to date: a plugin whose source changed swaps ..data atomically, and
// leaves the files alone when nothing changed. No goroutines; calls for one pod must not overlap.
package volume

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Plugin makes one kind of volume. Its methods may be called concurrently for different pods.
type Plugin interface {
	// Name is Kubernetes' ("kubernetes.io/empty-dir"); it names the folder.
	Name() string
	// Handles says whether the volume is this plugin's.
	Handles(v *corev1.Volume) bool
	// SetUp makes or updates the volume. Again and again with the same request it changes nothing.
	SetUp(ctx context.Context, r Request) (Result, error)
}

// Request is what a plugin is given. Its objects are shared and read-only.
type Request struct {
	Volume  *corev1.Volume
	Pod     *corev1.Pod // with the status as known, for status.podIP and the like
	Dir     string      // the volume's own folder; its parent exists
	Sources Sources
}

// Result is where the volume is.
type Result struct {
	Path     string
	ReadOnly bool      // must not be mounted writable
	Again    time.Time // set it up again then; zero: only when a source changes
}

// Sources are what volumes are filled from.
type Sources interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, bool)
	Secret(namespace, name string) (*corev1.Secret, bool)
	// Token is a token for the pod's service account, bound to the pod; again is when a fresh one should be asked for.
	Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (token string, again time.Time, err error)
	// Allocatable is what the node can give, for resourceFieldRef.
	Allocatable() corev1.ResourceList
}

// folder is where a plugin's volume of a name is.
func folder(podDir string, p Plugin, name string) string {
	return filepath.Join(podDir, "volumes", strings.ReplaceAll(p.Name(), "/", "~"), name)
}

// fsGroup is the pod's, or nil.
func fsGroup(p *corev1.Pod) *int64 {
	if p.Spec.SecurityContext == nil {
		return nil
	}
	return p.Spec.SecurityContext.FSGroup
}
