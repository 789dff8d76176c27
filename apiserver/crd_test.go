// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"strings"
	"testing"

	"github.com/knarr/knarr/apiserver/apiservertest"
)

// crontabs is the example of the Kubernetes documentation, with all that it shows in one definition.
const crontabs = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: crontabs.stable.example.com
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    selectableFields: [{jsonPath: .spec.image}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What is wanted.
            properties:
              cronSpec: {type: string, pattern: '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$', default: "5 0 * * *"}
              image: {type: string, description: Which image to run.}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
              minReplicas: {type: integer}
              extra: {type: object, x-kubernetes-preserve-unknown-fields: true}
              port: {x-kubernetes-int-or-string: true}
              nothing: {type: string, nullable: true}
              steps:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, run: {type: string}}}
            x-kubernetes-validations:
            - {rule: "!has(self.minReplicas) || self.minReplicas <= self.replicas", message: "replicas should be greater than or equal to minReplicas."}
            - {rule: "!has(oldSelf.image) || has(self.image)", message: "image cannot be taken away"}
          status:
            type: object
            properties: {replicas: {type: integer}, labelSelector: {type: string}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}
    additionalPrinterColumns:
    - {name: Spec, type: string, description: The cron spec, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
`

func TestCronTabOfTheDocumentation(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	cache := t.TempDir()
	const head = "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {name: my, labels: {a: b}}\n"
	two := strings.Replace(head, "name: my", "name: two", 1)
	for _, c := range []struct {
		name, stdin, args string
		want              []string // in the output
	}{
		{"define", crontabs, "create -f -", []string{"created"}},
		{"established", "", "wait --for condition=established --timeout=5s crd/crontabs.stable.example.com", []string{"condition met"}},
		{"its conditions", "", "get crd crontabs.stable.example.com -o jsonpath={.status.conditions[*].type}|{.status.storedVersions}|{.status.acceptedNames.kind}", []string{`NamesAccepted Established|["v1"]|CronTab`}},
		{"discovered", "", "api-resources --api-group=stable.example.com -o wide", []string{"crontabs", "ct", "stable.example.com/v1", "true", "CronTab", "create,delete,deletecollection,get,list,patch,update,watch", "all"}},
		{"explained", "", "explain crontab.spec", []string{"GROUP:      stable.example.com", "What is wanted.", "cronSpec\t<string>", "Which image to run."}},
		{"explained by version 2", "", "explain ct.spec --output plaintext-openapiv2", []string{"cronSpec\t<string>"}},
		{"nothing there", "", "get ct", []string{"No resources found"}},
		{"an unknown field", head + "spec: {imgae: x}\n", "create --validate=strict -f -", []string{`unknown field "spec.imgae"`}},
		{"what applying does not know", head + "spec: {imgae: x}\n", "apply --server-side -f -", []string{".spec.imgae: field not declared in schema"}},
		{"explained where nothing may stand beside a reference", "", "explain crontab.metadata", []string{"Standard object's metadata"}},
		{"only warned of", head + "spec: {imgae: x}\n", "create --validate=warn --dry-run=server -f -", []string{`Warning: unknown field "spec.imgae"`, "created (server dry run)"}},
		{"a pattern", head + "spec: {cronSpec: '* * * *', replicas: 15}\n", "create --validate=false -f -", []string{
			`The CronTab "my" is invalid`, `spec.cronSpec: Invalid value: "* * * *"`, "spec.cronSpec in body should match", "spec.replicas: Invalid value: 15: spec.replicas in body should be less than or equal to 10"}},
		{"a rule", head + "spec: {minReplicas: 3}\n", "create -f -", []string{"spec: Invalid value", "replicas should be greater than or equal to minReplicas."}},
		{"a list with keys", head + "spec: {steps: [{name: a}, {name: a}]}\n", "create -f -", []string{`spec.steps[1]: Duplicate value: {"name":"a"}`}},
		{"made", head + "spec: {image: one, port: 8080, extra: {any: [thing]}, steps: [{name: a, run: x}]}\n", "apply -f -", []string{"crontab.stable.example.com/my created"}},
		{"defaults", "", "get ct my -o jsonpath={.spec}", []string{`"cronSpec":"5 0 * * *"`, `"replicas":1`, `"any":["thing"]`, `"port":8080`}},
		{"columns", "", "get crontabs", []string{"NAME   SPEC        REPLICAS   AGE", "my     5 0 * * *   1          "}},
		{"by category", "", "get all", []string{"crontab.stable.example.com/my"}},
		{"by label", "", "get ct -l a=b -o name", []string{"crontab.stable.example.com/my"}},
		{"by field", "", "get ct --field-selector spec.image=one -o name", []string{"crontab.stable.example.com/my"}},
		{"by another field", "", "get ct --field-selector spec.image=two -o name", []string{""}},
		{"by no field", "", "get ct --field-selector spec.cronSpec=two", []string{"field label not supported: spec.cronSpec"}},
		{"generation", "", "get ct my -o jsonpath={.metadata.generation}", []string{"1"}},
		{"changed", head + "spec: {image: two, steps: [{name: a, run: go}, {name: b}]}\n", "apply -f -", []string{"configured"}},
		{"generation grows", "", "get ct my -o jsonpath={.metadata.generation}:{.spec.extra}:{.spec.steps[*].name}", []string{"2::a b"}},
		{"a transition rule", "", `patch ct my --type=json -p [{"op":"remove","path":"/spec/image"}]`, []string{"image cannot be taken away"}},
		{"merge patch", "", `patch ct my --type=merge -p {"spec":{"image":"three"},"status":{"replicas":7}}`, []string{"patched"}},
		{"status is not the writer's", "", "get ct my -o jsonpath={.status}:{.metadata.generation}", []string{":3"}},
		{"status", "", `patch ct my --subresource=status --type=merge -p {"spec":{"image":"no"},"status":{"replicas":7,"labelSelector":"a=b"}}`, []string{"patched"}},
		{"status leaves the rest", "", "get ct my -o jsonpath={.status.replicas}:{.spec.image}:{.metadata.generation}", []string{"7:three:3"}},
		{"strategic", "", `patch ct my -p {"spec":{"image":"three"}}`, []string{"application/merge-patch+json, application/apply-patch+yaml"}},
		{"scale", "", "scale ct my --replicas=3", []string{"scaled"}},
		{"scaled", "", "get ct my --subresource=scale -o jsonpath={.spec.replicas}:{.status.replicas}:{.status.selector}", []string{"3:7:a=b"}},
		{"scale too far", "", "scale ct my --replicas=30", []string{"should be less than or equal to 10"}},
		{"server-side apply", two + "spec: {image: x, steps: [{name: a, run: z}]}\n", "apply --server-side --field-manager=one -f -", []string{"serverside-applied"}},
		{"by another", two + "spec: {steps: [{name: b}]}\n", "apply --server-side --field-manager=two -f -", []string{"serverside-applied"}},
		{"lists merge by key", "", "get ct two -o jsonpath={.spec.steps[*].name}", []string{"a b"}},
		{"a conflict", two + "spec: {steps: [{name: a, run: other}]}\n", "apply --server-side --field-manager=two -f -", []string{`conflict with "one": .spec.steps[name="a"].run`}},
		{"the owner takes his back", two + "spec: {image: x}\n", "apply --server-side --field-manager=one -f -", []string{"serverside-applied"}},
		{"and only his", "", "get ct two -o jsonpath={.spec.steps[*].name}", []string{"b"}},
		{"who set what", "", "get ct two --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}", []string{"one", "two"}},
		{"another kind of the same names", strings.ReplaceAll(crontabs, "plural: crontabs, singular: crontab,", "plural: cronthings, singular: cronthing,"), "create --validate=false -f -", []string{"must be spec.names.plural"}},
		{"a conflicting kind", strings.NewReplacer("name: crontabs.", "name: cronthings.", "plural: crontabs, singular: crontab,", "plural: cronthings, singular: cronthing,").Replace(crontabs), "create -f -", []string{"created"}},
		{"is not accepted", "", "wait --for condition=NamesAccepted=false --timeout=5s crd/cronthings.stable.example.com", []string{"condition met"}},
		{"and says why", "", `get crd cronthings.stable.example.com -o jsonpath={.status.conditions[?(@.type=="NamesAccepted")].message}`, []string{"is already in use"}},
		{"a protected group", strings.NewReplacer("stable.example.com", "stable.k8s.io").Replace(crontabs), "create -f -", []string{"api-approved.kubernetes.io", "protected groups must have approval annotation"}},
		{"a bad schema", strings.Replace(crontabs, "type: integer, minimum", "type: integerish, minimum", 1), "replace -f -", []string{"Unsupported value: \"integerish\""}},
		{"a bad rule", strings.Replace(crontabs, "self.minReplicas <= self.replicas", "self.minReplicas <= self.noSuch", 1), "replace -f -", []string{"undefined field 'noSuch'"}},
		{"removed", "", "delete crd crontabs.stable.example.com", []string{"deleted"}},
		{"with its objects", "", "get ct my", []string{"could not find the requested resource"}},
		{"the other takes the names", "", "wait --for condition=established --timeout=5s crd/cronthings.stable.example.com", []string{"condition met"}},
		{"and serves", "", "get cronthings", []string{"No resources found"}},
	} {
		out, err := kubectl(t, s, c.stdin, append(strings.Fields(c.args), "--cache-dir", cache)...)
		if err != nil {
			out += err.Error()
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: kubectl %s: %q is missing in\n%s", c.name, c.args, w, out)
			}
		}
	}
}
