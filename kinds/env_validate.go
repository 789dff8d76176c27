// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (v *containerRules) env(p *field.Path, e corev1.EnvVar) {
	if v.need(p.Child("name"), e.Name) {
		v.each(p.Child("name"), e.Name, validation.IsRelaxedEnvVarName(e.Name))
	}
	from := e.ValueFrom
	if from == nil {
		return
	}
	at := p.Child("valueFrom")
	count := 0
	if r := from.FieldRef; r != nil {
		count++
		validateFieldRef(v.faults, at.Child("fieldRef"), r, envFields)
	}
	if r := from.ResourceFieldRef; r != nil {
		count++
		validateResourceRef(v.faults, at.Child("resourceFieldRef"), r, false)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		count++
		v.keyRef(at.Child("configMapKeyRef"), r.Name, r.Key)
	}
	if r := from.SecretKeyRef; r != nil {
		count++
		v.keyRef(at.Child("secretKeyRef"), r.Name, r.Key)
	}
	if r := from.FileKeyRef; r != nil {
		count++
		v.fileRef(at.Child("fileKeyRef"), r)
	}
	switch {
	case count == 0:
		v.invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `fileKeyRef` or `secretKeyRef`")
	case e.Value != "":
		v.invalid(at, "", "may not be specified when `value` is not empty")
	case count > 1:
		v.invalid(at, "", "may not have more than one field specified at a time")
	}
}

func (v *containerRules) keyRef(p *field.Path, name, key string) {
	v.each(p.Child("name"), name, validation.IsDNS1123Subdomain(name))
	if v.need(p.Child("key"), key) {
		v.each(p.Child("key"), key, validation.IsConfigMapKey(key))
	}
}

func (v *containerRules) fileRef(p *field.Path, r *corev1.FileKeySelector) {
	if v.need(p.Child("key"), r.Key) {
		v.each(p.Child("key"), r.Key, validation.IsRelaxedEnvVarName(r.Key))
	}
	if v.need(p.Child("volumeName"), r.VolumeName) {
		if src, ok := v.volumes[r.VolumeName]; !ok {
			v.add(field.NotFound(p.Child("volumeName"), r.VolumeName))
		} else if src.EmptyDir == nil {
			v.invalid(p.Child("volumeName"), r.VolumeName, "must be an emptyDir volume")
		}
	}
	if v.need(p.Child("path"), r.Path) {
		validateDescending(v.faults, p.Child("path"), r.Path)
	}
}

func (v *containerRules) envFrom(p *field.Path, e corev1.EnvFromSource) {
	if e.Prefix != "" {
		v.each(p.Child("prefix"), e.Prefix, validation.IsRelaxedEnvVarName(e.Prefix))
	}
	count := 0
	if r := e.ConfigMapRef; r != nil {
		count++
		v.ref(p.Child("configMapRef", "name"), r.Name)
	}
	if r := e.SecretRef; r != nil {
		count++
		v.ref(p.Child("secretRef", "name"), r.Name)
	}
	switch {
	case count == 0:
		v.invalid(p, "", "must specify one of: `configMapRef` or `secretRef`")
	case count > 1:
		v.invalid(p, "", "may not have more than one field specified at a time")
	}
}

func (f *faults) ref(p *field.Path, name string) {
	if f.need(p, name) {
		f.each(p, name, validation.IsDNS1123Subdomain(name))
	}
}

// The fields of a pod that can be handed into its containers: as environment, and as files, where whole maps fit too.
var (
	envFields = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	fileFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
	allFields  = append([]string{"metadata.annotations", "metadata.labels"}, envFields...)
)

func validateFieldRef(f *faults, p *field.Path, r *corev1.ObjectFieldSelector, allowed []string) {
	if !f.need(p.Child("apiVersion"), r.APIVersion) || !f.need(p.Child("fieldPath"), r.FieldPath) {
		return
	}
	at := p.Child("fieldPath")
	path, key, subscripted := subscript(r.FieldPath)
	switch {
	case r.APIVersion != "v1":
		f.invalid(at, r.FieldPath, fmt.Sprintf("error converting fieldPath: unsupported pod version: %s", r.APIVersion))
	case subscripted && path == "metadata.annotations":
		f.each(at, key, validation.IsQualifiedName(strings.ToLower(key)))
	case subscripted && path == "metadata.labels":
		f.each(at, key, validation.IsQualifiedName(key))
	case subscripted:
		f.invalid(at, path, "does not support subscript")
	case !slices.Contains(allFields, r.FieldPath):
		f.invalid(at, r.FieldPath, fmt.Sprintf("error converting fieldPath: field label not supported: %s", r.FieldPath))
	case !slices.Contains(allowed, r.FieldPath):
		f.add(field.NotSupported(at, r.FieldPath, allowed))
	}
}

// subscript splits metadata.labels['app'] into its path and key.
func subscript(s string) (path, key string, ok bool) {
	rest, ok := strings.CutSuffix(s, "']")
	if !ok {
		return s, "", false
	}
	path, key, ok = strings.Cut(rest, "['")
	if !ok || path == "" {
		return s, "", false
	}
	return path, key, true
}

var containerResources = []string{
	"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
}

func validateResourceRef(f *faults, p *field.Path, r *corev1.ResourceFieldSelector, volume bool) {
	if volume && !f.need(p.Child("containerName"), r.ContainerName) {
		return
	}
	if !f.need(p.Child("resource"), r.Resource) {
		return
	}
	_, name, _ := strings.Cut(r.Resource, ".")
	if !slices.Contains(containerResources, r.Resource) && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) {
		f.add(field.NotSupported(p.Child("resource"), r.Resource, containerResources))
	}
	validateDivisor(f, p.Child("divisor"), name, r.Divisor)
}

func validateDivisor(f *faults, p *field.Path, name string, d resource.Quantity) {
	if d.IsZero() {
		return
	}
	sizes := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
	s := d.String()
	switch {
	case name == "cpu":
		if s != "1m" && s != "1" {
			f.invalid(p, s, "only divisor's values 1m and 1 are supported with the cpu resource")
		}
	case slices.Contains(sizes, s):
	case name == "memory":
		f.invalid(p, s, "only divisor's values "+strings.Join(sizes, ", ")+" are supported with the memory resource")
	case name == "ephemeral-storage":
		f.invalid(p, s, "only divisor's values "+strings.Join(sizes, ", ")+" are supported with the local ephemeral storage resource")
	}
}
