// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
)

// Unsupported refuses what no other plugin handles, by name.
type Unsupported struct{}

func (Unsupported) Name() string                  { return "knarr/unsupported" }
func (Unsupported) Handles(v *corev1.Volume) bool { return true }

func (Unsupported) SetUp(_ context.Context, r Request) (Result, error) {
	if r.Volume.GitRepo != nil {
		// CVE-2024-10220, CVE-2025-1767: git runs what a repository says.
		return Result{}, errs.New(errs.Unsupported, "gitRepo volumes are refused: they run the repository's hooks on the node; "+
			"clone in an init container into an emptyDir instead")
	}
	return Result{}, errs.New(errs.Unsupported, "volumes of type %s are not supported on this node", sourceName(r.Volume))
}

// sourceName is the field of the volume that is set.
func sourceName(v *corev1.Volume) string {
	var m map[string]any
	b, err := json.Marshal(v.VolumeSource)
	if err == nil && json.Unmarshal(b, &m) == nil && len(m) > 0 {
		return slices.Sorted(maps.Keys(m))[0]
	}
	return "(none)"
}
