// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
)

// ConfigMap shows the keys of a ConfigMap as files.
type ConfigMap struct{}

func (ConfigMap) Name() string                  { return "kubernetes.io/configmap" }
func (ConfigMap) Handles(v *corev1.Volume) bool { return v.ConfigMap != nil }

func (ConfigMap) SetUp(_ context.Context, r Request) (Result, error) {
	src := r.Volume.ConfigMap
	files, err := configMapFiles(r, src.Name, src.Items, src.DefaultMode, src.Optional)
	if err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return Result{}, err
	}
	return filled(r, files, time.Time{})
}

// filled writes the files into the volume's folder, which exists.
func filled(r Request, files map[string]File, again time.Time) (Result, error) {
	gid := fsGroup(r.Pod)
	if err := shareReadable(r.Dir, gid); err != nil {
		return Result{}, err
	}
	if err := writeFiles(r.Dir, files, gid, time.Now()); err != nil {
		return Result{}, err
	}
	return Result{Path: r.Dir, ReadOnly: true, Again: again}, nil
}

func configMapFiles(r Request, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (map[string]File, error) {
	cm, ok := r.Sources.ConfigMap(r.Pod.Namespace, name)
	if !ok {
		if optional != nil && *optional {
			return map[string]File{}, nil
		}
		return nil, errs.New(errs.NotFound, "configmap %q not found", name)
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return pick(data, items, mode, optional, "configmap references non-existent config key: %s")
}

// pick chooses keys, or all of them.
func pick(data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool, missing string) (map[string]File, error) {
	files := map[string]File{}
	if len(items) == 0 {
		for k, v := range data {
			files[k] = File{Data: v, Mode: modeOf(nil, mode)}
		}
		return files, nil
	}
	for _, it := range items {
		v, ok := data[it.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, fmt.Errorf(missing, it.Key)
		}
		files[it.Path] = File{Data: v, Mode: modeOf(it.Mode, mode)}
	}
	return files, nil
}

// modeOf is the first that is set, else 0644.
func modeOf(modes ...*int32) uint32 {
	for _, m := range modes {
		if m != nil {
			return uint32(*m)
		}
	}
	return 0o644
}
