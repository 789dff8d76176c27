// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/downward"
)

// DownwardAPI shows fields of the pod as files.
type DownwardAPI struct{}

func (DownwardAPI) Name() string                  { return "kubernetes.io/downward-api" }
func (DownwardAPI) Handles(v *corev1.Volume) bool { return v.DownwardAPI != nil }

func (DownwardAPI) SetUp(_ context.Context, r Request) (Result, error) {
	files, err := downwardFiles(r, r.Volume.DownwardAPI.Items, r.Volume.DownwardAPI.DefaultMode)
	if err != nil {
		return Result{}, err
	}
	if err := ensureTmpfs(r.Dir, secretSize, 0o755); err != nil {
		return Result{}, err
	}
	return filled(r, files, time.Time{})
}

func downwardFiles(r Request, items []corev1.DownwardAPIVolumeFile, mode *int32) (map[string]File, error) {
	files := map[string]File{}
	for _, it := range items {
		value, err := downwardValue(r, &it)
		if err != nil {
			return nil, err
		}
		files[it.Path] = File{Data: []byte(value), Mode: modeOf(it.Mode, mode)}
	}
	return files, nil
}

func downwardValue(r Request, it *corev1.DownwardAPIVolumeFile) (string, error) {
	switch {
	case it.FieldRef != nil:
		return downward.Field(r.Pod, it.FieldRef.FieldPath)
	case it.ResourceFieldRef != nil:
		all := slices.Concat(r.Pod.Spec.Containers, r.Pod.Spec.InitContainers)
		i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == it.ResourceFieldRef.ContainerName })
		if i < 0 {
			return "", fmt.Errorf("container %q not found", it.ResourceFieldRef.ContainerName)
		}
		return downward.Resource(&all[i], it.ResourceFieldRef, r.Sources.Allocatable())
	}
	return "", fmt.Errorf("downwardAPI item %q has neither fieldRef nor resourceFieldRef", it.Path)
}
