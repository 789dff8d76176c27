// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 what clients may still send must still be refused

package admission

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/kinds"
)

// nodeRestriction holds a kubelet's writes to its own Node and the pods bound to it, and there to the fields that are the
// kubelet's. The Node authorizer has decided about resource and name already; here the content is judged.
func nodeRestriction() Step {
	return Step{Name: "NodeRestriction", Validate: func(ctx context.Context, r *Request) error {
		node, ok := auth.NodeName(r.User)
		if !ok {
			return nil
		}
		switch {
		case r.Type == kinds.For[corev1.Pod]():
			return kubeletPod(ctx, r, node)
		case r.Type == kinds.For[corev1.Node]():
			return kubeletNode(r, node)
		case r.Type == kinds.For[corev1.ServiceAccount]() && r.Subresource == "token":
			return nil // rest checks that the token is bound to a pod of the node
		case r.Type.Group == "coordination.k8s.io" && (r.Namespace != corev1.NamespaceNodeLease || r.Name != node):
			return forbidden(r, "node %q may only write its own lease", node)
		}
		return nil
	}}
}

func kubeletPod(ctx context.Context, r *Request, node string) error {
	switch r.Subresource {
	case "":
	case "status":
		if pod, ok := r.Old.(*corev1.Pod); !ok || pod.Spec.NodeName != node {
			return forbidden(r, "node %q can only update pod status for pods with spec.nodeName set to itself", node)
		}
		if !equality.Semantic.DeepEqual(r.Object.GetLabels(), r.Old.GetLabels()) {
			return forbidden(r, "node %q cannot update labels through pod status", node)
		}
		return nil
	case "eviction":
		return kubeletOwns(ctx, r, node)
	default:
		return forbidden(r, "unexpected pod subresource %q, only 'status' and 'eviction' are allowed", r.Subresource)
	}
	switch r.Verb {
	case Create:
		return kubeletMirror(r, node)
	case Delete:
		return kubeletOwns(ctx, r, node)
	}
	return forbidden(r, "node %q may not update pods", node)
}

func kubeletOwns(ctx context.Context, r *Request, node string) error {
	pod, ok := r.Old.(*corev1.Pod)
	if !ok {
		e, found, err := r.Lookup.Find(ctx, kinds.For[corev1.Pod](), r.Namespace, r.Name)
		if err != nil || !found {
			return err
		}
		pod = e.Object.(*corev1.Pod)
	}
	if pod.Spec.NodeName != node {
		return forbidden(r, "node %q can only delete pods with spec.nodeName set to itself", node)
	}
	return nil
}

func kubeletMirror(r *Request, node string) error {
	pod := r.Object.(*corev1.Pod)
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return forbidden(r, "pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	}
	if pod.Spec.NodeName != node {
		return forbidden(r, "node %q can only create pods with spec.nodeName set to itself", node)
	}
	if len(pod.OwnerReferences) > 1 || len(pod.OwnerReferences) == 1 && (pod.OwnerReferences[0].Kind != "Node" || pod.OwnerReferences[0].Name != node) {
		return forbidden(r, "node %q can only create pods with an owner reference set to itself", node)
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil || v.ConfigMap != nil || v.PersistentVolumeClaim != nil || v.Projected != nil {
			return forbidden(r, "node %q can not create pods that reference API objects", node)
		}
	}
	return nil
}

func kubeletNode(r *Request, node string) error {
	if r.Name != node {
		return forbidden(r, "node %q is not allowed to modify node %q", node, r.Name)
	}
	if r.Verb == Delete {
		return forbidden(r, "node %q is not allowed to delete itself", node)
	}
	obj, ok := r.Object.(*corev1.Node)
	if !ok {
		return forbidden(r, "node %q sent a %T", node, r.Object)
	}
	old, _ := r.Old.(*corev1.Node)
	if old == nil {
		old = &corev1.Node{}
	} else {
		if !equality.Semantic.DeepEqual(obj.Spec.Taints, old.Spec.Taints) {
			return forbidden(r, "node %q is not allowed to modify taints", node)
		}
		if !equality.Semantic.DeepEqual(obj.OwnerReferences, old.OwnerReferences) {
			return forbidden(r, "node %q is not allowed to modify ownerReferences", node)
		}
	}
	if obj.Spec.ConfigSource != nil {
		return forbidden(r, "node %q is not allowed to set a config source", node)
	}
	for _, labels := range []map[string]string{obj.Labels, old.Labels} {
		for k := range labels {
			if obj.Labels[k] != old.Labels[k] && !kubeletLabel(k) {
				return forbidden(r, "is not allowed to modify labels: %s", k)
			}
		}
	}
	return nil
}

// kubeletLabels are the labels of the reserved domains that a kubelet knows the truth about.
var kubeletLabels = [...]string{
	corev1.LabelHostname, corev1.LabelArchStable, corev1.LabelOSStable, corev1.LabelInstanceTypeStable,
	corev1.LabelTopologyRegion, corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaRegion, corev1.LabelFailureDomainBetaZone,
	corev1.LabelInstanceType, "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
}

// kubeletLabel: outside of kubernetes.io and k8s.io any label; inside, the listed ones and two prefixes made for kubelets.
func kubeletLabel(key string) bool {
	domain, _, found := strings.Cut(key, "/")
	if !found {
		return true
	}
	under := func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) }
	if !under("kubernetes.io") && !under("k8s.io") {
		return true
	}
	if under("kubelet.kubernetes.io") || under("node.kubernetes.io") {
		return true
	}
	for _, l := range kubeletLabels {
		if key == l {
			return true
		}
	}
	return false
}
