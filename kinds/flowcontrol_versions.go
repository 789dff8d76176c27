// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	flowcontrolv1beta1 "k8s.io/api/flowcontrol/v1beta1"
	flowcontrolv1beta2 "k8s.io/api/flowcontrol/v1beta2"
	flowcontrolv1beta3 "k8s.io/api/flowcontrol/v1beta3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A level's share was "assured" first. In the beta versions none meant 30, in v1 it may be zero: such a zero is told from a
// share left out by an annotation.
const zeroShares = flowcontrolv1beta3.PriorityLevelPreserveZeroConcurrencySharesKey

var (
	flowSchemaVersions = []Served[flowcontrolv1.FlowSchema]{
		Alike[flowcontrolv1.FlowSchema, flowcontrolv1beta3.FlowSchema]("flowcontrol.apiserver.k8s.io", "v1beta3", nil, nil),
		Alike[flowcontrolv1.FlowSchema, flowcontrolv1beta2.FlowSchema]("flowcontrol.apiserver.k8s.io", "v1beta2", nil, nil),
		Alike[flowcontrolv1.FlowSchema, flowcontrolv1beta1.FlowSchema]("flowcontrol.apiserver.k8s.io", "v1beta1", nil, nil),
	}
	priorityLevelVersions = []Served[flowcontrolv1.PriorityLevelConfiguration]{
		Alike("flowcontrol.apiserver.k8s.io", "v1beta3", func(in *flowcontrolv1beta3.PriorityLevelConfiguration, out *flowcontrolv1.PriorityLevelConfiguration) {
			if l := in.Spec.Limited; l != nil {
				sharesToHub(l.NominalConcurrencyShares, out)
			}
		}, func(in *flowcontrolv1.PriorityLevelConfiguration, out *flowcontrolv1beta3.PriorityLevelConfiguration) {
			if l := in.Spec.Limited; l != nil {
				out.Spec.Limited.NominalConcurrencyShares = sharesFromHub(in, &out.ObjectMeta)
			}
		}),
		Alike("flowcontrol.apiserver.k8s.io", "v1beta2", func(in *flowcontrolv1beta2.PriorityLevelConfiguration, out *flowcontrolv1.PriorityLevelConfiguration) {
			if l := in.Spec.Limited; l != nil {
				sharesToHub(l.AssuredConcurrencyShares, out)
			}
		}, func(in *flowcontrolv1.PriorityLevelConfiguration, out *flowcontrolv1beta2.PriorityLevelConfiguration) {
			if l := in.Spec.Limited; l != nil {
				out.Spec.Limited.AssuredConcurrencyShares = sharesFromHub(in, &out.ObjectMeta)
			}
		}),
		Alike("flowcontrol.apiserver.k8s.io", "v1beta1", func(in *flowcontrolv1beta1.PriorityLevelConfiguration, out *flowcontrolv1.PriorityLevelConfiguration) {
			if l := in.Spec.Limited; l != nil {
				sharesToHub(l.AssuredConcurrencyShares, out)
			}
		}, func(in *flowcontrolv1.PriorityLevelConfiguration, out *flowcontrolv1beta1.PriorityLevelConfiguration) {
			if l := in.Spec.Limited; l != nil {
				out.Spec.Limited.AssuredConcurrencyShares = sharesFromHub(in, &out.ObjectMeta)
			}
		}),
	}
)

func sharesToHub(n int32, out *flowcontrolv1.PriorityLevelConfiguration) {
	out.Spec.Limited.NominalConcurrencyShares = nil
	_, zero := take(out, zeroShares)
	if n != 0 || zero {
		out.Spec.Limited.NominalConcurrencyShares = &n
	}
}

func sharesFromHub(in *flowcontrolv1.PriorityLevelConfiguration, out metav1.Object) int32 {
	n := in.Spec.Limited.NominalConcurrencyShares
	if n == nil {
		return 0
	}
	if *n == 0 {
		annotate(out, zeroShares, "")
	}
	return *n
}
