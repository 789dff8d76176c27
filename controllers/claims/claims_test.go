// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

var start = time.Unix(1_000_000, 0)

func storage(size string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

func volume(name, size string, edit ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{protectVolume}},
		Spec:       corev1.PersistentVolumeSpec{Capacity: storage(size), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}},
	}
	for _, e := range edit {
		e(v)
	}
	return v
}

func claim(edit ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data", UID: "data-uid", Finalizers: []string{protectClaim}},
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: storage("5Gi")}},
	}
	for _, e := range edit {
		e(c)
	}
	return c
}

func TestAClaimGetsTheRightVolume(t *testing.T) {
	class := func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "slow" }
	late := storagev1.VolumeBindingWaitForFirstConsumer
	slow := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "slow"}, VolumeBindingMode: &late}
	wantSlow := func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = new("slow") }
	user := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{
		{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}}}
	for _, x := range []struct {
		rule    string
		objects []kinds.Object
		want    string
	}{
		{"the smallest that is big enough", []kinds.Object{claim(), volume("a", "20Gi"), volume("b", "5Gi"), volume("c", "1Gi")}, "b"},
		{"of its class", []kinds.Object{claim(), volume("a", "20Gi"), volume("b", "5Gi", class)}, "a"},
		{"with its modes", []kinds.Object{claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.AccessModes[0] = corev1.ReadWriteMany }), volume("a", "5Gi")}, ""},
		{"with its labels", []kinds.Object{claim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		}), volume("a", "5Gi"), volume("b", "9Gi", func(v *corev1.PersistentVolume) { v.Labels = map[string]string{"a": "b"} })}, "b"},
		{"that it names", []kinds.Object{claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "b" }), volume("a", "5Gi"), volume("b", "50Gi")}, "b"},
		{"that names it", []kinds.Object{claim(), volume("a", "5Gi"), volume("b", "50Gi", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "data"}
		})}, "b"},
		{"not another's", []kinds.Object{claim(), volume("a", "5Gi", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "data", UID: "before"}
		})}, ""},
		{"not before a pod wants it", []kinds.Object{claim(wantSlow), slow, volume("a", "5Gi", class)}, ""},
		{"when a pod wants it", []kinds.Object{claim(wantSlow), slow, volume("a", "5Gi", class), user}, "a"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			w := reconciletest.New(t.Context(), func() time.Time { return start }, x.objects...)
			reconciletest.Converges(t, w, reconciletest.Check{}, Controller(), Volumes())
			c, _ := cache.Get[corev1.PersistentVolumeClaim](w.Cache.Snapshot(), "default", "data")
			if c.Spec.VolumeName != x.want {
				t.Fatalf("it got %q, want %q", c.Spec.VolumeName, x.want)
			}
			for v := range cache.List[corev1.PersistentVolume](w.Cache.Snapshot(), "") {
				if (v.Status.Phase == corev1.VolumeBound) != (v.Name == x.want) {
					t.Errorf("%s is %s", v.Name, v.Status.Phase)
				}
			}
			if bound := c.Status.Phase == corev1.ClaimBound; bound != (x.want != "") {
				t.Errorf("the claim is %q", c.Status.Phase)
			}
		})
	}
}

func TestTheEndOfAClaim(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n", Volumes: []corev1.Volume{
		{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}}}
	w := reconciletest.New(t.Context(), func() time.Time { return start }, claim(), volume("a", "5Gi"), pod)
	settle := func() (claim bool, phase corev1.PersistentVolumePhase) {
		t.Helper()
		reconciletest.Converges(t, w, reconciletest.Check{}, Controller(), Volumes())
		_, claim = cache.Get[corev1.PersistentVolumeClaim](w.Cache.Snapshot(), "default", "data")
		v, ok := cache.Get[corev1.PersistentVolume](w.Cache.Snapshot(), "", "a")
		if ok {
			phase = v.Status.Phase
		}
		return claim, phase
	}
	remove := func(r client.Request) {
		t.Helper()
		r.Verb = client.Delete
		if _, err := w.Do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	remove(client.Request{Type: kinds.For[corev1.PersistentVolumeClaim](), Namespace: "default", Name: "data"})
	if there, phase := settle(); !there || phase != corev1.VolumeBound {
		t.Errorf("while a pod uses it: %v %s", there, phase)
	}
	w.Remove(pod)
	if there, phase := settle(); there || phase != corev1.VolumeReleased {
		t.Errorf("afterwards: %v %s", there, phase)
	}
	remove(client.Request{Type: kinds.For[corev1.PersistentVolume](), Name: "a"})
	if _, phase := settle(); phase != "" {
		t.Errorf("the volume is still %s", phase)
	}
}
