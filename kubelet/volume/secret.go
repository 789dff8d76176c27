// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
)

// Secret shows the keys of a Secret as files, in memory only.
type Secret struct{}

func (Secret) Name() string                  { return "kubernetes.io/secret" }
func (Secret) Handles(v *corev1.Volume) bool { return v.Secret != nil }

func (Secret) SetUp(_ context.Context, r Request) (Result, error) {
	src := r.Volume.Secret
	files, err := secretFiles(r, src.SecretName, src.Items, src.DefaultMode, src.Optional)
	if err != nil {
		return Result{}, err
	}
	if err := ensureTmpfs(r.Dir, secretSize, 0o755); err != nil {
		return Result{}, err
	}
	return filled(r, files, time.Time{})
}

func secretFiles(r Request, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (map[string]File, error) {
	s, ok := r.Sources.Secret(r.Pod.Namespace, name)
	if !ok {
		if optional != nil && *optional {
			return map[string]File{}, nil
		}
		return nil, errs.New(errs.NotFound, "secret %q not found", name)
	}
	return pick(s.Data, items, mode, optional, "references non-existent secret key: %s")
}
