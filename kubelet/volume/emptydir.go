// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
)

// EmptyDir is an empty folder for the life of the pod, on disk or in memory. A sizeLimit on disk is the eviction's to
// watch; in memory it is the tmpfs's size.
type EmptyDir struct{}

func (EmptyDir) Name() string                  { return "kubernetes.io/empty-dir" }
func (EmptyDir) Handles(v *corev1.Volume) bool { return v.EmptyDir != nil }

func (EmptyDir) SetUp(_ context.Context, r Request) (Result, error) {
	switch src := r.Volume.EmptyDir; src.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		size := memoryBound(r.Pod)
		if src.SizeLimit != nil && src.SizeLimit.Sign() > 0 && (size == 0 || src.SizeLimit.Value() < size) {
			size = src.SizeLimit.Value()
		}
		if size == 0 {
			var err error
			if size, err = halfOfMemory(); err != nil {
				return Result{}, err
			}
		}
		if err := ensureTmpfs(r.Dir, size, 0o777); err != nil {
			return Result{}, err
		}
	default:
		return Result{}, errs.New(errs.Unsupported, "emptyDir with medium %s is not supported", src.Medium)
	}
	return Result{Path: r.Dir}, shareDir(r.Dir, 0o777, fsGroup(r.Pod))
}

// memoryBound is the sum of the memory limits, 0 if a container has none.
func memoryBound(p *corev1.Pod) (sum int64) {
	for _, c := range p.Spec.Containers {
		q, ok := c.Resources.Limits[corev1.ResourceMemory]
		if !ok {
			return 0
		}
		sum += q.Value()
	}
	return sum
}

func halfOfMemory() (int64, error) {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0, fmt.Errorf("sysinfo: %w", err)
	}
	return int64(si.Totalram) * int64(si.Unit) / 2, nil
}
