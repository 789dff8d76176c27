// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
)

const badTemplate = `
  selector: {matchLabels: {app: a}}
  template: {metadata: {labels: {app: b}}, spec: {containers: [{name: c, image: i}]}}
`

// TestBadObjectsOfOtherKinds: the exact words of each fault, as kube-apiserver has them.
func TestBadObjectsOfOtherKinds(t *testing.T) {
	for name, c := range map[string]struct{ object, want string }{
		"a stateful set that does not find its pods": {
			"kind: StatefulSet\nmetadata: {name: x}\nspec:\n  podManagementPolicy: Wild\n  replicas: -1" + badTemplate,
			"spec.podManagementPolicy: Invalid value: \"Wild\": must be 'OrderedReady' or 'Parallel'\n" +
				"spec.replicas: Invalid value: -1: must be greater than or equal to 0\n" +
				"spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
		},
		"a daemon set that may never update": {
			"kind: DaemonSet\nmetadata: {name: x}\nspec:\n  updateStrategy: {rollingUpdate: {maxUnavailable: 0}}\n  selector: {matchLabels: {app: b}}\n" +
				"  template: {metadata: {labels: {app: b}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}",
			"spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"\n" +
				"spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
		},
		"a job whose pods start again for ever": {
			"kind: Job\nmetadata: {name: x}\nspec: {completions: -1, template: {spec: {containers: [{name: c, image: i}]}}}",
			"spec.completions: Invalid value: -1: must be greater than or equal to 0\n" +
				"spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
		},
		"a cron job without a schedule": {
			"kind: CronJob\nmetadata: {name: x}\nspec: {concurrencyPolicy: Some, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}",
			"spec.concurrencyPolicy: Unsupported value: \"Some\": supported values: \"Allow\", \"Forbid\", \"Replace\"\nspec.schedule: Required value",
		},
		"an empty claim": {
			"kind: PersistentVolumeClaim\nmetadata: {name: x}\nspec: {accessModes: [Any]}",
			"spec.accessModes: Unsupported value: \"Any\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"\n" +
				"spec.resources[storage]: Required value",
		},
		"a volume of nothing": {
			"kind: PersistentVolume\nmetadata: {name: x}\nspec: {capacity: {storage: 0}}",
			"spec.accessModes: Required value: at least 1 access mode is required\n" +
				"spec.capacity[storage]: Invalid value: \"0\": must be greater than zero\n" +
				"spec: Required value: must specify a volume type",
		},
		"a budget that says both": {
			"kind: PodDisruptionBudget\nmetadata: {name: x}\nspec: {minAvailable: 1, maxUnavailable: 1}",
			"spec: Invalid value: {\"minAvailable\":1,\"maxUnavailable\":1}: minAvailable and maxUnavailable cannot be both set",
		},
		"an autoscaler between five and two": {
			"kind: HorizontalPodAutoscaler\nmetadata: {name: x}\nspec: {minReplicas: 5, maxReplicas: 2, scaleTargetRef: {kind: Deployment}}",
			"spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`\nspec.scaleTargetRef.name: Required value",
		},
		"a class above the system's": {
			"kind: PriorityClass\nmetadata: {name: x}\nvalue: 2000000000",
			"value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
		},
		"a class without a provisioner": {
			"kind: StorageClass\nmetadata: {name: x}\nreclaimPolicy: Burn",
			"provisioner: Required value\nreclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Retain\"",
		},
		"an ingress for nothing": {
			"kind: Ingress\nmetadata: {name: x}\nspec: {}",
			"spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
		},
		"an ingress with a bad path": {
			"kind: Ingress\nmetadata: {name: x}\nspec: {rules: [{http: {paths: [{path: a, pathType: Prefix, backend: {service: {name: x}}}, {path: /}]}}]}",
			"spec.rules[0].http.paths[0].backend: Required value: port name or number is required\n" +
				"spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path\n" +
				"spec.rules[0].http.paths[1].backend: Required value: resource or service backend is required\n" +
				"spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified",
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, o := object(t, c.object)
			expect(t, k.Validate(o), c.want)
		})
	}
}

// TestWhatMustNotChange: of each kind the change that people try.
func TestWhatMustNotChange(t *testing.T) {
	for _, c := range []struct {
		kind   string
		change func(Object)
		want   string
	}{
		{"statefulset", func(o Object) { as[appsv1.StatefulSet](o).Spec.ServiceName = "y" },
			"spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"},
		{"daemonset", func(o Object) { as[appsv1.DaemonSet](o).Spec.Selector = nil }, "spec.selector: Invalid value: null: field is immutable"},
		{"job", func(o Object) { as[batchv1.Job](o).Spec.Template.Spec.Containers[0].Image = "z" }, "spec.template: Invalid value: …"},
		{"persistentvolumeclaim", func(o Object) { as[corev1.PersistentVolumeClaim](o).Spec.AccessModes = nil },
			"spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims…"},
		{"priorityclass", func(o Object) { as[schedulingv1.PriorityClass](o).Value++ }, "value: Forbidden: may not be changed in an update."},
		{"storageclass", func(o Object) { as[storagev1.StorageClass](o).Parameters = nil }, "parameters: Forbidden: updates to parameters are forbidden."},
	} {
		k := FindName(c.kind)
		old := settled(t, k)
		next := old.DeepCopyObject().(Object)
		c.change(next)
		expect(t, k.ValidateUpdate(next, old), c.want)
	}
}
