// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateVolumes answers the well-named volumes, for the mounts to be checked against.
func validateVolumes(f *faults, p *field.Path, volumes []corev1.Volume) map[string]corev1.VolumeSource {
	known := map[string]corev1.VolumeSource{}
	names := unique{}
	for i := range volumes {
		v, at := &volumes[i], p.Index(i)
		validateVolumeSource(f, at, v)
		if !f.need(at.Child("name"), v.Name) {
			continue
		}
		f.each(at.Child("name"), v.Name, validation.IsDNS1123Label(v.Name))
		names.check(f, at.Child("name"), v.Name)
		known[v.Name] = v.VolumeSource
	}
	return known
}

// validateVolumeSource: exactly one source, and that one well formed. The sources are the struct's fields, so a new one
// counts without being listed here.
func validateVolumeSource(f *faults, p *field.Path, v *corev1.Volume) {
	src := reflect.ValueOf(&v.VolumeSource).Elem()
	count := 0
	for i := range src.NumField() {
		if src.Field(i).IsNil() {
			continue
		}
		name, _, _ := strings.Cut(src.Type().Field(i).Tag.Get("json"), ",")
		at := p.Child(name)
		if count++; count > 1 {
			f.forbidden(at, "may not specify more than 1 volume type")
			continue
		}
		validateSource(f, at, src.Field(i).Interface())
	}
	if count == 0 {
		f.required(p, "must specify a volume type")
	}
}

func validateSource(f *faults, p *field.Path, source any) {
	switch s := source.(type) {
	case *corev1.HostPathVolumeSource:
		if f.need(p.Child("path"), s.Path) {
			noDotDot(f, p.Child("path"), s.Path)
		}
		if s.Type != nil {
			supported(f, p.Child("type"), *s.Type, corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
				corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)
		}
	case *corev1.EmptyDirVolumeSource:
		if s.SizeLimit != nil && s.SizeLimit.Sign() < 0 {
			f.forbidden(p.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")
		}
	case *corev1.SecretVolumeSource:
		f.need(p.Child("secretName"), s.SecretName)
		validateMode(f, p.Child("defaultMode"), s.DefaultMode)
		validateKeys(f, p.Child("items"), s.Items)
	case *corev1.ConfigMapVolumeSource:
		f.need(p.Child("name"), s.Name)
		validateMode(f, p.Child("defaultMode"), s.DefaultMode)
		validateKeys(f, p.Child("items"), s.Items)
	case *corev1.DownwardAPIVolumeSource:
		validateMode(f, p.Child("defaultMode"), s.DefaultMode)
		for i := range s.Items {
			validateDownwardFile(f, p.Child("items").Index(i), &s.Items[i])
		}
	case *corev1.ProjectedVolumeSource:
		validateMode(f, p.Child("defaultMode"), s.DefaultMode)
		validateProjected(f, p, s)
	case *corev1.PersistentVolumeClaimVolumeSource:
		f.need(p.Child("claimName"), s.ClaimName)
	case *corev1.ImageVolumeSource:
		f.need(p.Child("reference"), s.Reference)
		oneOf(f, p.Child("pullPolicy"), s.PullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	case *corev1.EphemeralVolumeSource:
		validateEphemeral(f, p, s)
	case *corev1.GitRepoVolumeSource:
		// It ran git, and with it the repository's hooks, as root on the node (CVE-2024-10220, CVE-2025-1767).
		f.forbidden(p, "gitRepo volumes are not supported: clone the repository in an init container into an emptyDir volume")
	default:
		validateStorageSource(f, p, source)
	}
}

// validateStorageSource: the sources served by a storage system.
func validateStorageSource(f *faults, p *field.Path, source any) {
	switch s := source.(type) {
	case *corev1.CSIVolumeSource:
		f.ref(p.Child("driver"), s.Driver)
		if r := s.NodePublishSecretRef; r != nil {
			f.need(p.Child("nodePublishSecretRef", "name"), r.Name)
		}
	case *corev1.NFSVolumeSource:
		f.need(p.Child("server"), s.Server)
		if f.need(p.Child("path"), s.Path) && !path.IsAbs(s.Path) {
			f.invalid(p.Child("path"), s.Path, "must be an absolute path")
		}
	case *corev1.ISCSIVolumeSource:
		f.need(p.Child("targetPortal"), s.TargetPortal)
		f.need(p.Child("iqn"), s.IQN)
		f.between(p.Child("lun"), int64(s.Lun), 0, 255)
	case *corev1.RBDVolumeSource:
		if len(s.CephMonitors) == 0 {
			f.required(p.Child("monitors"), "")
		}
		f.need(p.Child("image"), s.RBDImage)
	case *corev1.CephFSVolumeSource:
		if len(s.Monitors) == 0 {
			f.required(p.Child("monitors"), "")
		}
	case *corev1.GlusterfsVolumeSource:
		f.need(p.Child("endpoints"), s.EndpointsName)
		f.need(p.Child("path"), s.Path)
	case *corev1.FlexVolumeSource:
		f.need(p.Child("driver"), s.Driver)
	case *corev1.CinderVolumeSource:
		f.need(p.Child("volumeID"), s.VolumeID)
	case *corev1.GCEPersistentDiskVolumeSource:
		f.need(p.Child("pdName"), s.PDName)
	case *corev1.AWSElasticBlockStoreVolumeSource:
		f.need(p.Child("volumeID"), s.VolumeID)
	case *corev1.AzureFileVolumeSource:
		f.need(p.Child("secretName"), s.SecretName)
		f.need(p.Child("shareName"), s.ShareName)
	case *corev1.AzureDiskVolumeSource:
		f.need(p.Child("diskName"), s.DiskName)
		f.need(p.Child("diskURI"), s.DataDiskURI)
	case *corev1.VsphereVirtualDiskVolumeSource:
		f.need(p.Child("volumePath"), s.VolumePath)
	case *corev1.PortworxVolumeSource:
		f.need(p.Child("volumeID"), s.VolumeID)
	}
}

func validateMode(f *faults, p *field.Path, mode *int32) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		f.invalid(p, *mode, "must be a number between 0 and 0777 (octal), both inclusive")
	}
}

func validateKeys(f *faults, p *field.Path, items []corev1.KeyToPath) {
	for i, k := range items {
		f.need(p.Index(i).Child("key"), k.Key)
		validateFileName(f, p.Index(i).Child("path"), k.Path)
		validateMode(f, p.Index(i).Child("mode"), k.Mode)
	}
}

func validateDownwardFile(f *faults, p *field.Path, d *corev1.DownwardAPIVolumeFile) {
	validateFileName(f, p.Child("path"), d.Path)
	switch {
	case d.FieldRef != nil:
		validateFieldRef(f, p.Child("fieldRef"), d.FieldRef, fileFields)
		if d.ResourceFieldRef != nil {
			f.invalid(p, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
		}
	case d.ResourceFieldRef != nil:
		validateResourceRef(f, p.Child("resourceFieldRef"), d.ResourceFieldRef, true)
	default:
		f.required(p, "one of fieldRef and resourceFieldRef is required")
	}
	validateMode(f, p.Child("mode"), d.Mode)
}

func validateProjected(f *faults, p *field.Path, s *corev1.ProjectedVolumeSource) {
	paths := unique{}
	for i := range s.Sources {
		src, at := &s.Sources[i], p.Child("sources").Index(i)
		v := reflect.ValueOf(src).Elem()
		count := 0
		for j := range v.NumField() {
			if !v.Field(j).IsNil() {
				count++
			}
		}
		switch {
		case count == 0:
			f.required(at, "projection must specify at least one source")
		case count > 1:
			f.forbidden(at, "may not specify more than 1 volume type")
		}
		for path, where := range validateProjection(f, at, src) {
			if paths[path] {
				f.invalid(where, path, "conflicting duplicate paths")
			}
			paths[path] = true
		}
	}
}

// validateProjection answers the files a source makes, with where each is named.
func validateProjection(f *faults, p *field.Path, src *corev1.VolumeProjection) map[string]*field.Path {
	made := map[string]*field.Path{}
	keys := func(p *field.Path, name string, items []corev1.KeyToPath) {
		f.need(p.Child("name"), name)
		validateKeys(f, p.Child("items"), items)
		for i, k := range items {
			made[k.Path] = p.Child("items").Index(i).Child("path")
		}
	}
	if s := src.Secret; s != nil {
		keys(p.Child("secret"), s.Name, s.Items)
	}
	if s := src.ConfigMap; s != nil {
		keys(p.Child("configMap"), s.Name, s.Items)
	}
	if s := src.DownwardAPI; s != nil {
		for i := range s.Items {
			at := p.Child("downwardAPI", "items").Index(i)
			validateDownwardFile(f, at, &s.Items[i])
			made[s.Items[i].Path] = at.Child("path")
		}
	}
	if s := src.ServiceAccountToken; s != nil {
		at := p.Child("serviceAccountToken")
		if e := s.ExpirationSeconds; e != nil {
			if *e < 10*60 {
				f.invalid(at.Child("expirationSeconds"), *e, "may not specify a duration less than 10 minutes")
			}
			if *e > 1<<32 {
				f.invalid(at.Child("expirationSeconds"), *e, "may not specify a duration larger than 2^32 seconds")
			}
		}
		validateFileName(f, at.Child("path"), s.Path)
		made[s.Path] = at.Child("path")
	}
	if s := src.ClusterTrustBundle; s != nil {
		validateFileName(f, p.Child("clusterTrustBundle", "path"), s.Path)
		made[s.Path] = p.Child("clusterTrustBundle", "path")
	}
	delete(made, "")
	return made
}

func validateEphemeral(f *faults, p *field.Path, s *corev1.EphemeralVolumeSource) {
	at := p.Child("volumeClaimTemplate")
	if s.VolumeClaimTemplate == nil {
		f.required(at, "")
		return
	}
	claim := &s.VolumeClaimTemplate.Spec
	if len(claim.AccessModes) == 0 {
		f.required(at.Child("spec", "accessModes"), "at least 1 access mode is required")
	}
	if _, ok := claim.Resources.Requests[corev1.ResourceStorage]; !ok {
		f.required(at.Child("spec", "resources").Key(string(corev1.ResourceStorage)), "")
	}
}
