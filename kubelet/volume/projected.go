// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
)

// Projected shows several sources in one folder; among them service account tokens, which it has renewed in time.
type Projected struct{}

func (Projected) Name() string                  { return "kubernetes.io/projected" }
func (Projected) Handles(v *corev1.Volume) bool { return v.Projected != nil }

func (Projected) SetUp(ctx context.Context, r Request) (Result, error) {
	files := map[string]File{}
	var again time.Time
	var faults []error
	for i := range r.Volume.Projected.Sources {
		got, t, err := projection(ctx, r, &r.Volume.Projected.Sources[i], r.Volume.Projected.DefaultMode)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		maps.Copy(files, got)
		if !t.IsZero() && (again.IsZero() || t.Before(again)) {
			again = t
		}
	}
	if err := errors.Join(faults...); err != nil {
		return Result{}, err
	}
	if err := ensureTmpfs(r.Dir, secretSize, 0o755); err != nil {
		return Result{}, err
	}
	return filled(r, files, again)
}

func projection(ctx context.Context, r Request, src *corev1.VolumeProjection, mode *int32) (map[string]File, time.Time, error) {
	var files map[string]File
	var err error
	switch {
	case src.ConfigMap != nil:
		files, err = configMapFiles(r, src.ConfigMap.Name, src.ConfigMap.Items, mode, src.ConfigMap.Optional)
	case src.Secret != nil:
		files, err = secretFiles(r, src.Secret.Name, src.Secret.Items, mode, src.Secret.Optional)
	case src.DownwardAPI != nil:
		files, err = downwardFiles(r, src.DownwardAPI.Items, mode)
	case src.ServiceAccountToken != nil:
		return tokenFile(ctx, r, src.ServiceAccountToken, mode)
	case src.ClusterTrustBundle != nil:
		err = errs.New(errs.Unsupported, "projected clusterTrustBundle is not supported")
	case src.PodCertificate != nil:
		err = errs.New(errs.Unsupported, "projected podCertificate is not supported")
	default:
		err = errs.New(errs.Unsupported, "projected source is empty or not known")
	}
	return files, time.Time{}, err
}

func tokenFile(ctx context.Context, r Request, src *corev1.ServiceAccountTokenProjection, mode *int32) (map[string]File, time.Time, error) {
	seconds := int64(3600)
	if src.ExpirationSeconds != nil {
		seconds = *src.ExpirationSeconds
	}
	token, again, err := r.Sources.Token(ctx, r.Pod, src.Audience, seconds)
	if err != nil {
		return nil, again, fmt.Errorf("failed to fetch token: %w", err)
	}
	f := File{Data: []byte(token), Mode: modeOf(mode)}
	if uid, ok := soleUser(r.Pod); ok || fsGroup(r.Pod) != nil {
		f.Mode, f.UID = 0o600, uid // readable by the one user, and by fsGroup as all files are
	}
	return map[string]File{src.Path: f}, again, nil
}

// soleUser is the user that all containers run as, if the pod says so.
func soleUser(p *corev1.Pod) (uid int, ok bool) {
	var pod *int64
	if p.Spec.SecurityContext != nil {
		pod = p.Spec.SecurityContext.RunAsUser
	}
	for i, c := range append(p.Spec.InitContainers[:len(p.Spec.InitContainers):len(p.Spec.InitContainers)], p.Spec.Containers...) {
		u := pod
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			u = c.SecurityContext.RunAsUser
		}
		if u == nil || i > 0 && int(*u) != uid {
			return 0, false
		}
		uid = int(*u)
	}
	return uid, true
}
