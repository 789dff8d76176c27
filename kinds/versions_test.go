// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	certificatesv1 "k8s.io/api/certificates/v1"
	networkingv1 "k8s.io/api/networking/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"
)

// different are the fields that are not alike in a pair, for which a conversion is written by hand. A field that a new
// release of k8s.io/api adds to one side only fails the test until somebody says where it is kept.
var different = map[string][]string{
	"Deployment apps/v1beta1":                                         {".Spec.RollbackTo"},
	"Deployment extensions/v1beta1":                                   {".Spec.RollbackTo"},
	"StatefulSet apps/v1beta1":                                        {".Status.ObservedGeneration"}, // a pointer; copied
	"DaemonSet extensions/v1beta1":                                    {".Spec.TemplateGeneration"},
	"EndpointSlice discovery.k8s.io/v1beta1":                          {".Endpoints.DeprecatedTopology", ".Endpoints.Zone", ".Endpoints.Topology"},
	"CertificateSigningRequest certificates.k8s.io/v1beta1":           {".Spec.SignerName"},
	"RoleBinding rbac.authorization.k8s.io/v1alpha1":                  {".Subjects.APIGroup", ".Subjects.APIVersion"},
	"ClusterRoleBinding rbac.authorization.k8s.io/v1alpha1":           {".Subjects.APIGroup", ".Subjects.APIVersion"},
	"RuntimeClass node.k8s.io/v1alpha1":                               {".Handler", ".Overhead", ".Scheduling", ".Spec"},
	"PriorityLevelConfiguration flowcontrol.apiserver.k8s.io/v1beta1": {".Spec.Limited.NominalConcurrencyShares", ".Spec.Limited.AssuredConcurrencyShares"},
	"PriorityLevelConfiguration flowcontrol.apiserver.k8s.io/v1beta2": {".Spec.Limited.NominalConcurrencyShares", ".Spec.Limited.AssuredConcurrencyShares"},
	"PriorityLevelConfiguration flowcontrol.apiserver.k8s.io/v1beta3": {".Spec.Limited.NominalConcurrencyShares"},
	"HorizontalPodAutoscaler autoscaling/v1": {
		".Spec.Metrics", ".Spec.Behavior", ".Spec.TargetCPUUtilizationPercentage", ".Status.CurrentMetrics", ".Status.Conditions",
		".Status.CurrentCPUUtilizationPercentage",
	},
	"ResourceClaim resource.k8s.io/v1beta1":         {".Spec.Devices.Requests."},
	"ResourceClaimTemplate resource.k8s.io/v1beta1": {".Spec.Spec.Devices.Requests."},
	"ResourceSlice resource.k8s.io/v1beta1":         {".Spec.Devices.", ".Spec.NodeName", ".Spec.AllNodes"},
}

func TestVersionsHaveTheFieldsOfTheHub(t *testing.T) {
	for _, k := range every() {
		for _, v := range k.Served {
			if v.alike[0] == nil {
				continue
			}
			for _, d := range unlike("", v.alike[0], v.alike[1], map[[2]reflect.Type]bool{}) {
				path, _, _ := strings.Cut(d, ":")
				if !slices.ContainsFunc(different[k.Kind+" "+v.GroupVersion().String()], func(p string) bool {
					return path == p || strings.HasSuffix(p, ".") && strings.HasPrefix(path, p)
				}) {
					t.Errorf("%s %s: %s", v.GroupVersion(), k.Kind, d)
				}
			}
		}
	}
}

// filler makes random objects out of values that JSON and the API allow.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.3).NumElements(1, 2).MaxDepth(14).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(int64(c.Int31n(1000)), resource.DecimalSI)
		},
		func(v *intstr.IntOrString, c randfill.Continue) { *v = intstr.FromInt32(1 + c.Int31n(9)) },
		func(m *metav1.Time, c randfill.Continue) { *m = metav1.NewTime(time.Unix(c.Int63n(1<<31), 0)) },
		func(m *metav1.MicroTime, c randfill.Continue) {
			*m = metav1.NewMicroTime(time.Unix(c.Int63n(1<<31), 0))
		},
		func(r *runtime.RawExtension, c randfill.Continue) { r.Raw = []byte(`{"a":1}`) },
		func(m *metav1.FieldsV1, c randfill.Continue) { m.SetRawString(`{}`) },
		func(*metav1.TypeMeta, randfill.Continue) {},
		func(b *networkingv1.IngressBackend, c randfill.Continue) {
			b.Service = &networkingv1.IngressServiceBackend{Name: c.String(5), Port: networkingv1.ServiceBackendPort{Number: 1 + c.Int31n(9)}}
		},
		func(r *resourcev1.DeviceRequest, c randfill.Continue) {
			c.FillNoCustom(r)
			if r.Exactly != nil {
				r.Exactly.DeviceClassName = "gpu"
			}
		},
		func(r *resourcev1.ResourceSliceSpec, c randfill.Continue) {
			c.FillNoCustom(r)
			node, all := "node", true
			r.NodeName, r.AllNodes = &node, &all
		},
		func(r *certificatesv1.CertificateSigningRequestSpec, c randfill.Continue) {
			c.FillNoCustom(r)
			r.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
		},
		// v1 puts the share of the CPU first.
		func(s *autoscalingv2.HorizontalPodAutoscalerSpec, c randfill.Continue) {
			c.FillNoCustom(s)
			slices.SortStableFunc(s.Metrics, func(a, b autoscalingv2.MetricSpec) int {
				return map[bool]int{true: 0, false: 1}[isCPUShare(&a)] - map[bool]int{true: 0, false: 1}[isCPUShare(&b)]
			})
		},
	)
}

func TestVersionsLoseNothing(t *testing.T) {
	seed := rand.Int63()
	for _, k := range every() {
		for _, v := range k.Served {
			if v.Hub {
				continue
			}
			f := filler(seed)
			for range 20 {
				hub := k.New()
				f.Fill(hub)
				k.Default(hub)
				before := hub.DeepCopyObject()
				there := v.FromHub(hub)
				back := v.ToHub(there)
				k.Default(back)
				if !equality.Semantic.DeepEqual(hub, back) {
					t.Errorf("seed %d: hub to %s and back:\n%s", seed, v.GroupVersionKind, differences(t, hub, back))
					break
				}
				if !equality.Semantic.DeepEqual(hub, before) {
					t.Errorf("seed %d: %s wrote to the hub object", seed, v.GroupVersionKind)
				}
				again := v.FromHub(back)
				if !equality.Semantic.DeepEqual(there, again) {
					t.Errorf("seed %d: %s to the hub and back:\n%s", seed, v.GroupVersionKind, differences(t, there, again))
					break
				}
			}
		}
	}
}

func differences(t *testing.T, a, b any) string {
	x, errA := yaml.Marshal(a)
	y, errB := yaml.Marshal(b)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	left, right := strings.Split(string(x), "\n"), strings.Split(string(y), "\n")
	out := ""
	for i := range left {
		if i >= len(right) || left[i] != right[i] {
			out += "- " + strings.Join(left[i:min(i+6, len(left))], "\n- ") + "\n+ " + strings.Join(right[min(i, len(right)):min(i+6, len(right))], "\n+ ")
			break
		}
	}
	return out
}
