// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/volume"
	"github.com/knarr/knarr/kubelet/volume/volumetest"
)

func ptr[T any](v T) *T { return &v }

func sources() *volumetest.FakeSources {
	return &volumetest.FakeSources{
		ConfigMaps: map[string]*corev1.ConfigMap{"shop/cfg": {Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"bin": {0, 1}}}},
		Secrets:    map[string]*corev1.Secret{"shop/key": {Data: map[string][]byte{"tls.key": []byte("K")}}},
		Tokens: func(audience string) (string, time.Time, error) {
			return "token for " + audience, time.Now().Add(time.Hour), nil
		},
		Node: corev1.ResourceList{"memory": resource.MustParse("1Gi")},
	}
}

func cases(t *testing.T) map[string]volumetest.Case {
	changeMap := func(s *volumetest.FakeSources) {
		s.ConfigMaps["shop/cfg"] = &corev1.ConfigMap{Data: map[string]string{"a": "one", "c": "3"}}
	}
	return map[string]volumetest.Case{
		"emptyDir":         {Source: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		"emptyDir fsGroup": {Source: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, FSGroup: ptr(int64(1234))},
		"emptyDir memory": {Source: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("1Mi"))}}},
		"hostPath": {Source: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: t.TempDir()}}},
		"configMap": {
			Source:  corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}},
			Sources: sources(), Want: map[string]string{"a": "1", "b": "2", "bin": "\x00\x01"},
			Change: changeMap, Then: map[string]string{"a": "one", "c": "3"},
		},
		"configMap items": {
			Source: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, DefaultMode: ptr(int32(0o400)),
				Items: []corev1.KeyToPath{{Key: "a", Path: "deep/er/x"}, {Key: "a", Path: "y", Mode: ptr(int32(0o755))}}}},
			Sources: sources(), FSGroup: ptr(int64(7)), Want: map[string]string{"deep/er/x": "1", "y": "1"},
			Change: changeMap, Then: map[string]string{"deep/er/x": "one", "y": "one"},
		},
		"configMap optional": {
			Source: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: ptr(true)}},
			Sources: sources(), Want: map[string]string{},
		},
		"secret": {
			Source:  corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "key"}},
			Sources: sources(), Want: map[string]string{"tls.key": "K"},
			Change: func(s *volumetest.FakeSources) { s.Secrets["shop/key"].Data["tls.key"] = []byte("rotated") },
			Then:   map[string]string{"tls.key": "rotated"},
		},
		"downwardAPI": {
			Source: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
				{Path: "mem", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}}}},
			Sources: sources(), Want: map[string]string{"labels": `app="web"`, "mem": "1024"},
		},
		"projected": {
			Source: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "api", Path: "token"}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Items: []corev1.KeyToPath{{Key: "a", Path: "ca.crt"}}}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
			}}},
			Sources: sources(), Want: map[string]string{"token": "token for api", "ca.crt": "1", "tls.key": "K", "namespace": "shop"},
			Change: changeMap, Then: map[string]string{"token": "token for api", "ca.crt": "one", "tls.key": "K", "namespace": "shop"},
		},
	}
}

func TestPlugins(t *testing.T) {
	for name, c := range cases(t) {
		t.Run(name, func(t *testing.T) { volumetest.Run(t, c) })
	}
}

func TestEveryPluginIsTested(t *testing.T) {
	for _, p := range volume.All {
		tested := p.Name() == volume.Unsupported{}.Name()
		for _, c := range cases(t) {
			tested = tested || p.Handles(&corev1.Volume{VolumeSource: c.Source})
		}
		if !tested {
			t.Errorf("no case for %s", p.Name())
		}
	}
}

func podWith(src corev1.VolumeSource) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}, Spec: corev1.PodSpec{
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: src}}}}
}

func TestFaultsAreSaidAsKubernetesSaysThem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		src  corev1.VolumeSource
		want string
		kind error
	}{
		{corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "y"}}},
			`MountVolume.SetUp failed for volume "v" : configmap "y" not found`, errs.NotFound},
		{corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "y"}},
			`MountVolume.SetUp failed for volume "v" : secret "y" not found`, errs.NotFound},
		{corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Items: []corev1.KeyToPath{{Key: "z", Path: "z"}}}},
			`configmap references non-existent config key: z`, nil},
		{corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Items: []corev1.KeyToPath{{Key: "a", Path: "../z"}}}},
			`not a path below the volume`, nil},
		{corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: file, Type: ptr(corev1.HostPathDirectory)}}, "is not a directory", nil},
		{corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: file, Type: ptr(corev1.HostPathSocket)}}, "is not a socket file", nil},
		{corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: file + "x", Type: ptr(corev1.HostPathFile)}}, "is not a file", nil},
		{corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Repository: "x"}}, "gitRepo volumes are refused", errs.Unsupported},
		{corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}, "volumes of type nfs are not supported", errs.Unsupported},
		{corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}, "type persistentVolumeClaim", errs.Unsupported},
	} {
		_, _, err := volume.SetUp(t.Context(), podWith(x.src), t.TempDir(), sources())
		if err == nil || !strings.Contains(err.Error(), x.want) || x.kind != nil && !errors.Is(err, x.kind) {
			t.Errorf("%v: error is %v, want %q (%v)", x.src, err, x.want, x.kind)
		}
	}
}

func TestHostPathMakesWhatItsTypeAllows(t *testing.T) {
	dir := t.TempDir()
	for kind, isDir := range map[corev1.HostPathType]bool{corev1.HostPathDirectoryOrCreate: true, corev1.HostPathFileOrCreate: false} {
		path := filepath.Join(dir, string(kind))
		if _, _, err := volume.SetUp(t.Context(), podWith(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}), t.TempDir(), nil); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); err != nil || st.IsDir() != isDir {
			t.Errorf("%s: %v, %v", kind, st, err)
		}
	}
	// A FileOrCreate in a folder that is missing is an error, as it is upstream.
	_, _, err := volume.SetUp(t.Context(), podWith(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{
		Path: filepath.Join(dir, "no/file"), Type: ptr(corev1.HostPathFileOrCreate)}}), t.TempDir(), nil)
	if err == nil {
		t.Error("FileOrCreate made the parent")
	}
}

func TestModesAndOwners(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { _ = volume.TearDown(dir) })
	pod := podWith(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: ptr(int32(0o640)), Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Items: []corev1.KeyToPath{
			{Key: "a", Path: "a"}, {Key: "b", Path: "b", Mode: ptr(int32(0o755))}}}}}}})
	pod.Spec.Containers = []corev1.Container{{Name: "c"}}
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(321)), RunAsUser: ptr(int64(55))}
	paths, again, err := volume.SetUp(t.Context(), pod, dir, sources())
	if err != nil {
		t.Fatal(err)
	}
	if time.Until(again) < 50*time.Minute {
		t.Errorf("again = %v, want the token's renewal", again)
	}
	for name, want := range map[string]string{"token": "640 55:321", "a": "640 0:321", "b": "755 0:321"} {
		st, err := os.Stat(filepath.Join(paths["v"].Path, name))
		if err != nil {
			t.Fatal(err)
		}
		sys := st.Sys().(*syscall.Stat_t)
		if got := fmt.Sprintf("%o %d:%d", st.Mode().Perm(), sys.Uid, sys.Gid); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if !paths["v"].ReadOnly {
		t.Error("a projected volume may be written")
	}
}

func TestMemoryEmptyDirIsBounded(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { _ = volume.TearDown(dir) })
	paths, _, err := volume.SetUp(t.Context(), podWith(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
		Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("64Ki"))}}), dir, sources())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(paths["v"].Path, "big"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing 1 MiB into 64 KiB: %v", err)
	}
}
