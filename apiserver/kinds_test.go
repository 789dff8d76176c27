// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	restclient "k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/kinds"
)

func sampleOf(t *testing.T, k *kinds.Type) *unstructured.Unstructured {
	t.Helper()
	raw, err := os.ReadFile("../kinds/testdata/" + k.Singular + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(raw, &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestEveryKindIsServed: each kind's sample is made, read in every served version, changed through each of them and deleted.
func TestEveryKindIsServed(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	cfg := config(t, s)
	cfg.WarningHandler = restclient.NoWarnings{} // each old version has one
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds.All {
		t.Run(k.GroupKind().String(), func(t *testing.T) {
			o := sampleOf(t, k)
			switch k.Plural { // those of the sample are there already
			case "namespaces":
				o.SetName("another")
			case "apiservices":
				o.SetName("v1.another")
				if err := unstructured.SetNestedField(o.Object, "another", "spec", "group"); err != nil {
					t.Fatal(err)
				}
			}
			o.SetOwnerReferences(nil)
			at := func(v *kinds.Version) dynamic.ResourceInterface {
				r := client.Resource(v.GroupVersion().WithResource(k.Plural))
				if k.Cluster {
					return r
				}
				if o.GetNamespace() == "" {
					o.SetNamespace("default")
				}
				return r.Namespace(o.GetNamespace())
			}
			hub := at(&k.Served[0])
			if _, err := hub.Create(t.Context(), o, metav1.CreateOptions{FieldValidation: "Strict"}); err != nil {
				t.Fatal(err)
			}
			for i := range k.Served {
				v := &k.Served[i]
				got, err := at(v).Get(t.Context(), o.GetName(), metav1.GetOptions{})
				if err != nil || got.GroupVersionKind() != v.GroupVersionKind {
					t.Fatalf("get in %s: %v", v.GroupVersion(), err)
				}
				got.SetLabels(map[string]string{"seen": v.Version})
				got.SetResourceVersion("") // definitions have a controller that writes their status beside us
				got, err = at(v).Update(t.Context(), got, metav1.UpdateOptions{FieldValidation: "Strict"})
				if err != nil || got.GetLabels()["seen"] != v.Version {
					t.Fatalf("update in %s: %v", v.GroupVersion(), err)
				}
				patch := []byte(`{"metadata":{"annotations":{"seen":"` + v.Version + `"}}}`)
				if _, err := at(v).Patch(t.Context(), o.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
					t.Errorf("patch in %s: %v", v.GroupVersion(), err)
				}
				list, err := at(v).List(t.Context(), metav1.ListOptions{LabelSelector: "seen=" + v.Version})
				if err != nil || len(list.Items) != 1 || list.GetKind() != k.Kind+"List" {
					t.Errorf("list in %s: %v", v.GroupVersion(), err)
				}
				if !k.HasStatus {
					continue
				}
				if _, err := at(v).Get(t.Context(), o.GetName(), metav1.GetOptions{}, "status"); err != nil {
					t.Errorf("status in %s: %v", v.GroupVersion(), err)
				}
			}
			if err := hub.Delete(t.Context(), o.GetName(), metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

const manifests2016 = `
apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: my-nginx}
spec:
  replicas: 2
  template:
    metadata: {labels: {run: my-nginx}}
    spec:
      containers:
      - {name: my-nginx, image: nginx, ports: [{containerPort: 80}]}
---
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - http: {paths: [{path: /testpath, backend: {serviceName: test, servicePort: 80}}]}
---
apiVersion: batch/v1beta1
kind: CronJob
metadata: {name: hello}
spec:
  schedule: "*/1 * * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: hello, image: busybox}]}}}}
---
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: php-apache}
spec:
  scaleTargetRef: {apiVersion: extensions/v1beta1, kind: Deployment, name: my-nginx}
  minReplicas: 1
  maxReplicas: 10
  targetCPUUtilizationPercentage: 50
`

// TestManifestsOf2016: what people wrote then, by the kubectl of today.
func TestManifestsOf2016(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	for _, step := range []struct{ stdin, args, want string }{
		{manifests2016, "apply -f -", "deployment.extensions/my-nginx created\n"},
		{manifests2016, "apply -f -", "deployment.extensions/my-nginx unchanged\n"},
		{strings.Replace(manifests2016, "replicas: 2", "replicas: 3", 1), "apply -f -", "deployment.extensions/my-nginx configured"},
		{"", "get deploy my-nginx -o jsonpath={.apiVersion},{.spec.replicas},{.spec.selector.matchLabels.run},{.spec.strategy.rollingUpdate.maxSurge},{.spec.revisionHistoryLimit}",
			"apps/v1,3,my-nginx,1,2147483647"},
		{"", "get deploy.v1beta1.extensions my-nginx -o jsonpath={.apiVersion}", "extensions/v1beta1"},
		{"", "get ing web -o jsonpath={.spec.rules[0].http.paths[0].backend.service.port.number}", "80"},
		{"", "get cronjob.v1beta1.batch hello", "*/1 * * * *"},
		{"", "get hpa php-apache -o jsonpath={.apiVersion},{.spec.metrics[0].resource.target.averageUtilization}", "autoscaling/v2,50"},
		{"", "api-resources", "deployments                         deploy       apps/v1"},
		{"", "explain statefulset.spec.persistentVolumeClaimRetentionPolicy", "whenDeleted"},
		{"", "explain deployment.spec.rollbackTo --api-version=extensions/v1beta1", "revision"},
		{"", "describe cronjob hello", "Schedule:"},
		{manifests2016, "delete -f -", `deployment.extensions "my-nginx" deleted`},
	} {
		out, err := kubectl(t, s, step.stdin, strings.Fields(step.args)...)
		if err != nil || !strings.Contains(out, step.want) {
			t.Errorf("kubectl %s: %v\n%s\nwant %s", step.args, err, out, step.want)
		}
	}
}

const guarded = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: c, image: nginx}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
`

// TestEvictionSpendsTheBudget: no eviction without a disruption left, and each takes one.
func TestEvictionSpendsTheBudget(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	if out, err := kubectl(t, s, guarded, "apply", "-f", "-"); err != nil {
		t.Fatal(out, err)
	}
	set := clientset(t, s)
	pod, err := set.CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if _, err := set.CoreV1().Pods("default").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	evict := func() error {
		return set.CoreV1().Pods("default").EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}})
	}
	allow := func(n int32) {
		b, err := set.PolicyV1().PodDisruptionBudgets("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: b.Generation, DisruptionsAllowed: n, DesiredHealthy: 1, CurrentHealthy: 1 + n, ExpectedPods: 1 + n}
		if _, err := set.PolicyV1().PodDisruptionBudgets("default").UpdateStatus(t.Context(), b, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	allow(0)
	if err := evict(); !apierrors.IsTooManyRequests(err) || err.Error() != "Cannot evict pod as it would violate the pod's disruption budget." {
		t.Fatalf("with nothing left: %v", err)
	}
	allow(1)
	if err := evict(); err != nil {
		t.Fatal(err)
	}
	b, err := set.PolicyV1().PodDisruptionBudgets("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || b.Status.DisruptionsAllowed != 0 || len(b.Status.DisruptedPods) != 1 {
		t.Errorf("the budget was not spent: %v, %v", b.Status, err)
	}
}

// TestDebugAddsContainers: an ephemeral container is added to a pod and stays as it was made.
func TestDebugAddsContainers(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	if out, err := kubectl(t, s, guarded, "apply", "-f", "-"); err != nil {
		t.Fatal(out, err)
	}
	if out, err := kubectl(t, s, "", "debug", "web", "--image=busybox", "-c", "d", "--attach=false"); err != nil {
		t.Fatal(out, err)
	}
	out, err := kubectl(t, s, "", "get", "pod", "web", "-o", "jsonpath={.spec.ephemeralContainers[0].name},{.metadata.generation}")
	if err != nil || !strings.Contains(out, "d,2") {
		t.Error(out, err)
	}
	pods := clientset(t, s).CoreV1().Pods("default")
	pod, err := pods.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Spec.EphemeralContainers[0].Image = "other"
	if _, err := pods.UpdateEphemeralContainers(t.Context(), "web", pod, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), `existing ephemeral containers "d" may not be changed`) {
		t.Errorf("changed: %v", err)
	}
}
