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
	for i, n := range fit {
		var have int64
		for j := range want.pod.Spec.Containers {
			have += imageSize(n.node, want.pod.Spec.Containers[j].Image)
		}
		have = min(max(have, smallImages), largeImages)
		out[i] = 100 * float64(have-smallImages) / (largeImages - smallImages)
	}
}

func imageSize(n *corev1.Node, image string) int64 {
	if !strings.ContainsAny(image[strings.LastIndexByte(image, '/')+1:], ":@") {
		image += ":latest"
	}
	for i := range n.Status.Images {
		for _, name := range n.Status.Images[i].Names {
			if name == image || strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/") == image {
				return n.Status.Images[i].SizeBytes
			}
		}
	}
	return 0
}
