// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"reflect"

	resourcev1 "k8s.io/api/resource/v1"
	resourcev1alpha3 "k8s.io/api/resource/v1alpha3"
	resourcev1beta1 "k8s.io/api/resource/v1beta1"
	resourcev1beta2 "k8s.io/api/resource/v1beta2"
)

// In v1beta1 the one way to ask for devices, and the one kind of device, had no name of their own.
var (
	deviceClassVersions = []Served[resourcev1.DeviceClass]{
		Alike[resourcev1.DeviceClass, resourcev1beta2.DeviceClass]("resource.k8s.io", "v1beta2", nil, nil),
		Alike[resourcev1.DeviceClass, resourcev1beta1.DeviceClass]("resource.k8s.io", "v1beta1", nil, nil),
	}
	taintRuleVersions = []Served[resourcev1.DeviceTaintRule]{
		Alike[resourcev1.DeviceTaintRule, resourcev1beta2.DeviceTaintRule]("resource.k8s.io", "v1beta2", nil, nil),
		Alike[resourcev1.DeviceTaintRule, resourcev1alpha3.DeviceTaintRule]("resource.k8s.io", "v1alpha3", nil, nil),
	}
	resourceClaimVersions = []Served[resourcev1.ResourceClaim]{
		Alike[resourcev1.ResourceClaim, resourcev1beta2.ResourceClaim]("resource.k8s.io", "v1beta2", nil, nil),
		Alike("resource.k8s.io", "v1beta1", func(in *resourcev1beta1.ResourceClaim, out *resourcev1.ResourceClaim) {
			requestsToHub(in.Spec.Devices.Requests, out.Spec.Devices.Requests)
		}, func(in *resourcev1.ResourceClaim, out *resourcev1beta1.ResourceClaim) {
			requestsFromHub(in.Spec.Devices.Requests, out.Spec.Devices.Requests)
		}),
	}
	claimTemplateVersions = []Served[resourcev1.ResourceClaimTemplate]{
		Alike[resourcev1.ResourceClaimTemplate, resourcev1beta2.ResourceClaimTemplate]("resource.k8s.io", "v1beta2", nil, nil),
		Alike("resource.k8s.io", "v1beta1", func(in *resourcev1beta1.ResourceClaimTemplate, out *resourcev1.ResourceClaimTemplate) {
			requestsToHub(in.Spec.Spec.Devices.Requests, out.Spec.Spec.Devices.Requests)
		}, func(in *resourcev1.ResourceClaimTemplate, out *resourcev1beta1.ResourceClaimTemplate) {
			requestsFromHub(in.Spec.Spec.Devices.Requests, out.Spec.Spec.Devices.Requests)
		}),
	}
	resourceSliceVersions = []Served[resourcev1.ResourceSlice]{
		Alike[resourcev1.ResourceSlice, resourcev1beta2.ResourceSlice]("resource.k8s.io", "v1beta2", nil, nil),
		Alike("resource.k8s.io", "v1beta1", func(in *resourcev1beta1.ResourceSlice, out *resourcev1.ResourceSlice) {
			for i := range in.Spec.Devices {
				if b := in.Spec.Devices[i].Basic; b != nil {
					copyAlike(reflect.ValueOf(&out.Spec.Devices[i]).Elem(), reflect.ValueOf(b).Elem())
				}
			}
		}, func(in *resourcev1.ResourceSlice, out *resourcev1beta1.ResourceSlice) {
			for i := range in.Spec.Devices {
				b := &resourcev1beta1.BasicDevice{}
				copyAlike(reflect.ValueOf(b).Elem(), reflect.ValueOf(&in.Spec.Devices[i]).Elem())
				out.Spec.Devices[i].Basic = b
			}
		}),
	}
)

func requestsToHub(in []resourcev1beta1.DeviceRequest, out []resourcev1.DeviceRequest) {
	for i := range in {
		if in[i].DeviceClassName != "" {
			out[i].Exactly = &resourcev1.ExactDeviceRequest{}
			copyAlike(reflect.ValueOf(out[i].Exactly).Elem(), reflect.ValueOf(&in[i]).Elem())
		}
	}
}

func requestsFromHub(in []resourcev1.DeviceRequest, out []resourcev1beta1.DeviceRequest) {
	for i := range in {
		if in[i].Exactly != nil {
			copyAlike(reflect.ValueOf(&out[i]).Elem(), reflect.ValueOf(in[i].Exactly).Elem())
		}
	}
}
