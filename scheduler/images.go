// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The sizes between which an image that is there already counts.
const (
	smallImages = 23 << 20
	largeImages = 1000 << 20
)

// imagesHere: the more of the pod's images, by size, the node has, the better.
func imagesHere(fit []*Node, want *request, out []float64) {
	var names []string
	for i := range want.pod.Spec.Containers {
		names = append(names, fullImage(want.pod.Spec.Containers[i].Image))
	}
	for i, n := range fit {
		var have int64
		for _, name := range names {
			have += imageSize(n.node, name)
		}
		have = min(max(have, smallImages), largeImages)
		out[i] = 100 * float64(have-smallImages) / (largeImages - smallImages)
	}
}

// fullImage is an image's name with its tag, as nodes report it.
func fullImage(name string) string {
	if !strings.ContainsAny(name[strings.LastIndexByte(name, '/')+1:], ":@") {
		name += ":latest"
	}
	return name
}

func imageSize(n *corev1.Node, image string) int64 {
	for i := range n.Status.Images {
		for _, name := range n.Status.Images[i].Names {
			if name == image || strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/") == image {
				return n.Status.Images[i].SizeBytes
			}
		}
	}
	return 0
}
