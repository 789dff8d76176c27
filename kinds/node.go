// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Node is core/v1 Node, stored as minions as ever. The kubelet that creates it sends its status along.
var Node = Kind[corev1.Node]{
	Version: "v1", Name: "Node", Plural: "nodes", Short: []string{"no"}, Storage: "minions", Cluster: true,
	HasStatus: true, StatusOnCreate: true, NoGeneration: true,
	Default: func(n *corev1.Node) {
		if n.Status.Allocatable == nil && n.Status.Capacity != nil {
			n.Status.Allocatable = n.Status.Capacity.DeepCopy()
		}
		roundUp(n.Status.Capacity)
		roundUp(n.Status.Allocatable)
	},
	Validate:       validateNode,
	ValidateUpdate: validateNodeUpdate,
	ValidateStatus: func(new, old *corev1.Node) field.ErrorList {
		return append(validateNode(new), validateNodeUpdate(new, old)...)
	},
	Columns: nodeColumns,
	Fields: func(n *corev1.Node) fields.Set {
		return fields.Set{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
	},
}

func validateNode(n *corev1.Node) field.ErrorList {
	f := &faults{}
	spec, status := field.NewPath("spec"), field.NewPath("status")
	validateTaints(f, spec.Child("taints"), n.Spec.Taints)
	for i, cidr := range n.Spec.PodCIDRs {
		f.add(validation.IsValidCIDRForLegacyField(spec.Child("podCIDRs").Index(i), cidr, true, nil)...)
	}
	if len(n.Spec.PodCIDRs) > 0 && n.Spec.PodCIDR != "" && n.Spec.PodCIDR != n.Spec.PodCIDRs[0] {
		f.invalid(spec.Child("podCIDRs").Index(0), n.Spec.PodCIDRs[0], "must be equal to `podCIDR`")
	}
	seen := unique{}
	for i, a := range n.Status.Addresses {
		seen.check(f, status.Child("addresses").Index(i), string(a.Type)+"/"+a.Address)
	}
	for _, part := range []struct {
		name string
		list corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for _, name := range sortedNames(part.list) {
			at := status.Child(part.name).Key(string(name))
			f.each(at, name, validation.IsQualifiedName(string(name)))
			validateQuantity(f, at, name, part.list[name])
		}
	}
	return f.list
}

func validateTaints(f *faults, p *field.Path, taints []corev1.Taint) {
	seen := map[string]bool{}
	for i, t := range taints {
		at := p.Index(i)
		f.add(metavalidation.ValidateLabelName(t.Key, at.Child("key"))...)
		f.each(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))
		validateTaintEffect(f, at.Child("effect"), t.Effect)
		if key := t.Key + ":" + string(t.Effect); seen[key] {
			d := field.Duplicate(at, t)
			d.Detail = "taints must be unique by key and effect pair"
			f.add(d)
		} else {
			seen[key] = true
		}
	}
}

// validateNodeUpdate: where a node is and which addresses its pods have is settled once.
func validateNodeUpdate(new, old *corev1.Node) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(new.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		f.forbidden(p.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid")
	}
	if old.Spec.ProviderID != "" && new.Spec.ProviderID != old.Spec.ProviderID {
		f.forbidden(p.Child("providerID"), "node updates may not change providerID except from \"\" to valid")
	}
	return f.list
}

var nodeColumns = []Column[corev1.Node]{
	nameColumn[corev1.Node](),
	text("Status", "Whether it takes and runs pods.", 0, nodeStatus),
	text("Roles", "From its node-role.kubernetes.io/ labels.", 0, nodeRoles),
	ageColumn[corev1.Node](),
	text("Version", "The kubelet's version.", 0, func(n *corev1.Node) string { return n.Status.NodeInfo.KubeletVersion }),
	text("Internal-IP", "Its address inside the cluster.", wide, func(n *corev1.Node) string { return nodeAddress(n, corev1.NodeInternalIP) }),
	text("External-IP", "Its address from outside.", wide, func(n *corev1.Node) string { return nodeAddress(n, corev1.NodeExternalIP) }),
	text("OS-Image", "The operating system, from /etc/os-release.", wide, func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.OSImage) }),
	text("Kernel-Version", "The kernel, from uname -r.", wide, func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.KernelVersion) }),
	text("Container-Runtime", "What runs the containers.", wide, func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.ContainerRuntimeVersion) }),
}

func orUnknown(s string) string {
	if s == "" {
		return unknown
	}
	return s
}

func nodeStatus(n *corev1.Node) string {
	word := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			word = "Ready"
			if c.Status != corev1.ConditionTrue {
				word = "NotReady"
			}
		}
	}
	if n.Spec.Unschedulable {
		word += ",SchedulingDisabled"
	}
	return word
}

func nodeRoles(n *corev1.Node) string {
	roles := map[string]bool{}
	for k, v := range n.Labels {
		if role, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && role != "" {
			roles[role] = true
		} else if k == "kubernetes.io/role" && v != "" {
			roles[v] = true
		}
	}
	return orNone(strings.Join(slices.Sorted(maps.Keys(roles)), ","))
}

func nodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return none
}
