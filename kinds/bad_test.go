// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// object reads one object written as YAML and settles it as the server does.
func object(t *testing.T, text string) (*Type, Object) {
	t.Helper()
	head := struct{ APIVersion, Kind string }{}
	if err := yaml.Unmarshal([]byte(text), &head); err != nil {
		t.Fatal(err)
	}
	k := FindName(head.Kind)
	if k == nil {
		t.Fatalf("no kind %q", head.Kind)
	}
	o := k.New()
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	k.Default(o)
	k.BeforeCreate(o)
	return k, o
}

// expect compares faults with those wanted, one a line; "…" at the end of a line stands for any rest.
func expect(t *testing.T, got field.ErrorList, want string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(want), "\n")
	for _, g := range texts(got) {
		at := slices.IndexFunc(lines, func(w string) bool {
			w = strings.TrimSpace(w)
			if head, ok := strings.CutSuffix(w, "…"); ok {
				return strings.HasPrefix(g, head)
			}
			return g == w
		})
		if at < 0 {
			t.Errorf("unexpected fault: %s", g)
			continue
		}
		lines = slices.Delete(lines, at, at+1)
	}
	for _, w := range lines {
		if strings.TrimSpace(w) != "" {
			t.Errorf("missing fault: %s", strings.TrimSpace(w))
		}
	}
}

func pod(spec string) string {
	return "kind: Pod\nmetadata: {name: web}\nspec:\n" + indent(spec)
}

func container(lines string) string {
	return pod("containers:\n- name: web\n  image: web\n" + indent(lines))
}

func indent(s string) string {
	out := ""
	for _, l := range strings.Split(strings.Trim(s, "\n"), "\n") {
		out += "  " + l + "\n"
	}
	return out
}

func TestBadObjectsGetEveryFault(t *testing.T) {
	for name, c := range badObjects {
		t.Run(name, func(t *testing.T) {
			k, o := object(t, c.object)
			expect(t, k.Validate(o), c.want)
		})
	}
}

var badObjects = map[string]struct{ object, want string }{
	"pod without containers": {pod("containers: []"), "spec.containers: Required value"},
	"containers without name, image; wrong policies": {pod(`
containers:
- {image: web, imagePullPolicy: Sometimes}
- {name: Web_1, terminationMessagePolicy: Never}
- {name: a, image: " x"}
- {name: a, image: x}
restartPolicy: Perhaps
dnsPolicy: None`), `
spec.containers[0].name: Required value
spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"
spec.containers[1].name: Invalid value: "Web_1": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
spec.containers[1].image: Required value
spec.containers[1].terminationMessagePolicy: Unsupported value: "Never": supported values: "FallbackToLogsOnError", "File"
spec.containers[2].image: Invalid value: " x": must not have leading or trailing whitespace
spec.containers[3].name: Duplicate value: "a"
spec.restartPolicy: Unsupported value: "Perhaps": supported values: "Always", "Never", "OnFailure"
spec.dnsConfig: Required value: must provide ` + "`dnsConfig` when `dnsPolicy`" + ` is None`},
	"ports": {pod(`
hostNetwork: true
containers:
- name: a
  image: a
  ports:
  - {name: http, containerPort: 80}
  - {name: http, containerPort: 81, hostPort: 82}
  - {name: "-", containerPort: 65536, protocol: ICMP}
  - {hostPort: 90}
- {name: b, image: b, ports: [{containerPort: 80}]}`), `
spec.containers[0].ports[1].name: Duplicate value: "http"
spec.containers[0].ports[1].containerPort: Invalid value: 81: must match ` + "`hostPort` when `hostNetwork`" + ` is true
spec.containers[0].ports[2].name: Invalid value: "-": must contain at least one letter (a-z)
spec.containers[0].ports[2].name: Invalid value: "-": must not begin or end with a hyphen
spec.containers[0].ports[2].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive
spec.containers[0].ports[2].hostPort: Invalid value: 65536: must be between 1 and 65535, inclusive
spec.containers[0].ports[2].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
spec.containers[0].ports[3].containerPort: Required value
spec.containers[0].ports[3].containerPort: Invalid value: 0: must match ` + "`hostPort` when `hostNetwork`" + ` is true
spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//80"`},
	"environment": {container(`
env:
- {value: x}
- {name: "A=B"}
- {name: A, valueFrom: {}}
- {name: B, value: x, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: C, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}
- {name: D, valueFrom: {fieldRef: {fieldPath: spec.volumes}}}
- {name: E, valueFrom: {secretKeyRef: {name: s}, configMapKeyRef: {name: c, key: "a/b"}}}
- {name: F, valueFrom: {resourceFieldRef: {resource: limits.gpu, divisor: 2}}}
- {name: G, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2}}}
envFrom: [{}, {configMapRef: {}}]`), `
spec.containers[0].env[0].name: Required value
spec.containers[0].env[1].name: Invalid value: "A=B": …
spec.containers[0].env[2].valueFrom: Invalid value: "": must specify one of: ` + "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `fileKeyRef` or `secretKeyRef`" + `
spec.containers[0].env[3].valueFrom: Invalid value: "": may not be specified when ` + "`value`" + ` is not empty
spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
spec.containers[0].env[5].valueFrom.fieldRef.fieldPath: Invalid value: "spec.volumes": error converting fieldPath: field label not supported: spec.volumes
spec.containers[0].env[6].valueFrom: Invalid value: "": may not have more than one field specified at a time
spec.containers[0].env[6].valueFrom.secretKeyRef.key: Required value
spec.containers[0].env[6].valueFrom.configMapKeyRef.key: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.'…
spec.containers[0].env[7].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": …
spec.containers[0].env[8].valueFrom.resourceFieldRef.divisor: Invalid value: "2": only divisor's values 1m and 1 are supported with the cpu resource
spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: ` + "`configMapRef` or `secretRef`" + `
spec.containers[0].envFrom[1].configMapRef.name: Required value`},
	"resources": {container(`
resources:
  limits: {cpu: "1", memory: -1Gi, gpus: 1, example.com/gpu: 500m}
  requests: {cpu: "2", example.com/tpu: 1}`), `
spec.containers[0].resources.limits[memory]: Invalid value: "-1Gi": must be greater than or equal to 0
spec.containers[0].resources.requests[memory]: Invalid value: "-1Gi": must be greater than or equal to 0
spec.containers[0].resources.limits[gpus]: Invalid value: "gpus": must be a standard resource for containers
spec.containers[0].resources.requests[gpus]: Invalid value: "gpus": must be a standard resource for containers
spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "500m": must be an integer
spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "500m": must be an integer
spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources`},
	"probes and hooks": {container(`
livenessProbe: {successThreshold: 2, httpGet: {port: 0}, tcpSocket: {port: x-}}
readinessProbe: {exec: {}, terminationGracePeriodSeconds: 1}
startupProbe: {periodSeconds: -1}
lifecycle: {postStart: {}, preStop: {sleep: {seconds: 31}}}`), `
spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive
spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: "x-": must not begin or end with a hyphen
spec.containers[0].readinessProbe.exec.command: Required value
spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes
spec.containers[0].startupProbe: Required value: must specify a handler type
spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)`},
	"volumes and mounts": {pod(`
containers:
- name: web
  image: web
  volumeMounts:
  - {name: none, mountPath: /a}
  - {name: two, mountPath: /a}
  - {name: two}
  - {name: two, mountPath: /b, subPath: /x}
  - {name: two, mountPath: /c, subPath: ../x}
  - {name: two, mountPath: /d, mountPropagation: Bidirectional}
volumes:
- {name: two, emptyDir: {}, hostPath: {path: /}}
- {name: two, secret: {defaultMode: 512}}
- {name: "Z!", hostPath: {path: /a/../b, type: Folder}}
- {name: git, gitRepo: {repository: x}}
- {name: cm, configMap: {name: a, items: [{key: k, path: ../p}, {path: ..data}]}}
- {name: down, downwardAPI: {items: [{path: a}]}}
- {name: all, projected: {sources: [{}, {secret: {name: a, items: [{key: a, path: x}]}}, {serviceAccountToken: {path: x, expirationSeconds: 1}}]}}
- {name: nfs, nfs: {path: x}}`), `
spec.containers[0].volumeMounts[0].name: Not found: "none"
spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
spec.containers[0].volumeMounts[2].mountPath: Required value
spec.containers[0].volumeMounts[3].subPath: Invalid value: "/x": must be a relative path
spec.containers[0].volumeMounts[4].subPath: Invalid value: "../x": must not contain '..'
spec.containers[0].volumeMounts[5].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type
spec.volumes[1].name: Duplicate value: "two"
spec.volumes[1].secret.secretName: Required value
spec.volumes[1].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive
spec.volumes[2].name: Invalid value: "Z!": a lowercase RFC 1123 label…
spec.volumes[2].hostPath.path: Invalid value: "/a/../b": must not contain '..'
spec.volumes[2].hostPath.type: Unsupported value: "Folder": …
spec.volumes[3].gitRepo: Forbidden: gitRepo volumes are not supported: clone the repository in an init container into an emptyDir volume
spec.volumes[4].configMap.items[0].path: Invalid value: "../p": must not contain '..'
spec.volumes[4].configMap.items[1].key: Required value
spec.volumes[4].configMap.items[1].path: Invalid value: "..data": must not start with '..'
spec.volumes[5].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required
spec.volumes[6].projected.sources[0]: Required value: projection must specify at least one source
spec.volumes[6].projected.sources[2].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes
spec.volumes[6].projected.sources[2].serviceAccountToken.path: Invalid value: "x": conflicting duplicate paths
spec.volumes[7].nfs.server: Required value
spec.volumes[7].nfs.path: Invalid value: "x": must be an absolute path`},
	"init containers": {pod(`
initContainers: [{name: a, image: a, lifecycle: {preStop: {exec: {command: [x]}}}, livenessProbe: {exec: {command: [x]}}}, {name: web, image: a, restartPolicy: Often}]
containers: [{name: web, image: web}]`), `
spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always
spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
spec.initContainers[1].name: Duplicate value: "web"
spec.initContainers[1].restartPolicy: Unsupported value: "Often": supported values: "Always", "Never", "OnFailure"`},
	"placement": {container("") + `
  activeDeadlineSeconds: 0
  nodeSelector: {"a b": c}
  tolerations:
  - {operator: Equal}
  - {key: a, operator: Exists, value: b}
  - {key: a, effect: NoRun}
  - {key: a, effect: NoSchedule, tolerationSeconds: 1}
  - {key: a, operator: Like}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: {}
      preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: In}, {key: a, operator: Around}]}}]
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: [{}]
  topologySpreadConstraints: [{maxSkew: 0, whenUnsatisfiable: Maybe}]
  hostAliases: [{ip: 1.2.3, hostnames: ["a_b"]}]
`, `
spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
spec.nodeSelector: Invalid value: "a b": …
spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when ` + "`key`" + ` is empty, which means "match all values and all keys"
spec.tolerations[1].operator: Invalid value: {"key":"a","operator":"Exists","value":"b"}: value must be empty when ` + "`operator`" + ` is 'Exists'
spec.tolerations[2].effect: Unsupported value: "NoRun": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"
spec.tolerations[3].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when ` + "`tolerationSeconds`" + ` is set
spec.tolerations[4].operator: Unsupported value: "Like": supported values: "Equal", "Exists"
spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when ` + "`operator`" + ` is 'In' or 'NotIn'
spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].operator: Invalid value: "Around": not a valid selector operator
spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Maybe": supported values: "DoNotSchedule", "ScheduleAnyway"
spec.hostAliases[0].ip: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
spec.hostAliases[0].hostnames[0]: Invalid value: "a_b": …`},
	"security": {container(`
securityContext: {privileged: true, allowPrivilegeEscalation: false, runAsUser: -1, seccompProfile: {type: Localhost}, procMount: Unmasked}`) + `
  hostPID: true
  shareProcessNamespace: true
  securityContext: {fsGroup: -1, seccompProfile: {type: RuntimeDefault, localhostProfile: x}, sysctls: [{name: "net+x", value: "1"}, {name: kernel.a, value: "1\nkernel.core_pattern=|x"}]}
`, `
spec.containers[0].securityContext: Invalid value: {…
spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": ` + "`hostUsers` must be false to use `Unmasked`" + `
spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive
spec.securityContext.seccompProfile.localhostProfile: Invalid value: "x": can only be set when seccomp type is Localhost
spec.securityContext.sysctls[0].name: Invalid value: "net+x": must have at most 253 characters and match regex …
spec.securityContext.sysctls[1].value: Invalid value: "1\nkernel.core_pattern=|x": must not contain line breaks`},
	"deployment": {`
kind: Deployment
metadata: {name: web}
spec:
  replicas: -1
  progressDeadlineSeconds: 5
  minReadySeconds: 5
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0%}}
  template:
    metadata: {labels: {app: shop}}
    spec: {restartPolicy: Never, containers: [{name: web}]}
`, `
spec.replicas: Invalid value: -1: must be greater than or equal to 0
spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds
spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when ` + "`maxSurge`" + ` is 0
spec.template.metadata.labels: Invalid value: {"app":"shop"}: ` + "`selector` does not match template `labels`" + `
spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
spec.template.spec.containers[0].image: Required value`},
	"empty deployment": {"kind: Deployment\nspec: {strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}}", `
spec.selector: Required value
spec.template.spec.containers: Required value
spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy ` + "`type`" + ` is 'Recreate'`},
	"replica set": {"kind: ReplicaSet\nspec: {selector: {}, template: {spec: {containers: [{name: a, image: a}]}}}",
		`spec.selector: Invalid value: {}: empty selector is invalid for replicaset`},
	"service": {`
kind: Service
spec:
  clusterIP: None
  type: NodePort
  sessionAffinity: Always
  externalIPs: [127.0.0.1]
  ports:
  - {port: 80, nodePort: 80}
  - {name: b, port: 80, targetPort: -1, nodePort: 30001}
  - {name: b, port: 0, protocol: ICMP}
`, `
spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
spec.sessionAffinity: Unsupported value: "Always": supported values: "ClientIP", "None"
spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
spec.ports[0].name: Required value
spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767
spec.ports[1].targetPort: Invalid value: -1: must be between 1 and 65535, inclusive
spec.ports[1]: Duplicate value: …
spec.ports[2].name: Duplicate value: "b"
spec.ports[2].port: Invalid value: 0: must be between 1 and 65535, inclusive
spec.ports[2].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
spec.ports[2].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"`},
	"service of no type": {"kind: Service\nspec: {type: Magic, externalTrafficPolicy: Local}", `
spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
spec.ports: Required value
spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services`},
	"node ports of a ClusterIP service": {"kind: Service\nspec: {ports: [{port: 80, nodePort: 30000}]}",
		"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"},
	"external name": {"kind: Service\nspec: {type: ExternalName}", "spec.externalName: Required value"},
	"secret": {"kind: Secret\ntype: kubernetes.io/tls\ndata: {a b: eA==, tls.crt: eA==}", `
data[a b]: Invalid value: "a b": …
data[tls.key]: Required value`},
	"docker config": {"kind: Secret\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: secret}",
		`data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 's' looking for beginning of value`},
	"config map": {"kind: ConfigMap\ndata: {a: x, ..: y}\nbinaryData: {a: eA==}", `
data[a]: Invalid value: "a": duplicate of key present in binaryData
data[..]: Invalid value: "..": …`},
	"endpoint slice": {"kind: EndpointSlice\naddressType: IPv4\nendpoints: [{addresses: ['::1']}, {}]\nports: [{}, {}]", `
endpoints[0].addresses[0]: Invalid value: "::1": must be an IPv4 address
endpoints[1].addresses: Required value: must contain at least 1 address
ports[1].name: Duplicate value: ""`},
	"endpoints": {"kind: Endpoints\nsubsets: [{}, {addresses: [{ip: 127.0.0.1}], ports: [{port: 1}, {name: b, port: 0}]}]", `
subsets[0]: Required value: must specify ` + "`addresses` or `notReadyAddresses`" + `
subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
subsets[1].ports[0].name: Required value
subsets[1].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive`},
	"node": {"kind: Node\nspec: {taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoSchedule}, {key: b, effect: Never}]}\nstatus: {capacity: {cpu: -1}}", `
spec.taints[1]: Duplicate value: {"key":"a","effect":"NoSchedule"}: taints must be unique by key and effect pair
spec.taints[2].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"
status.capacity[cpu]: Invalid value: "-1": must be greater than or equal to 0
status.allocatable[cpu]: Invalid value: "-1": must be greater than or equal to 0`},
	"lease": {"kind: Lease\nspec: {leaseDurationSeconds: 0, leaseTransitions: -1}", `
spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0`},
	"role": {"kind: Role\nrules: [{}, {nonResourceURLs: [/x], verbs: [get]}]", `
rules[0].verbs: Required value: verbs must contain at least one value
rules[0].apiGroups: Required value: resource rules must supply at least one api group
rules[0].resources: Required value: resource rules must supply at least one resource
rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs`},
	"cluster role binding": {"kind: ClusterRoleBinding\nroleRef: {kind: Role}\nsubjects: [{kind: ServiceAccount, name: a}, {kind: Robot}]", `
roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
roleRef.name: Required value
subjects[0].namespace: Required value
subjects[1].name: Required value
subjects[1].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User"`},
	"event": {"kind: Event\nmetadata: {namespace: a}\ninvolvedObject: {namespace: b}\neventTime: '2026-01-01T00:00:00.000000Z'", `
involvedObject.namespace: Invalid value: "b": does not match event.namespace
reportingController: Required value
reportingInstance: Required value
action: Required value
reason: Required value`},
	"access review": {"kind: SubjectAccessReview\nspec: {}", `
spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified
spec.user: Invalid value: "": at least one of user or group must be specified`},
	"binding": {"kind: Binding\ntarget: {kind: Pod}", `
target.kind: Unsupported value: "Pod": supported values: "Node"
target.name: Required value`},
}

func TestForbiddenChanges(t *testing.T) {
	const deployment = "kind: Deployment\nspec: {selector: {matchLabels: {app: APP}}, template: {metadata: {labels: {app: APP}}, spec: {containers: [{name: a, image: a}]}}}"
	for name, c := range map[string]struct{ old, new, want string }{
		"pod: image, deadline, tolerations may change": {
			container("") + "  tolerations: [{key: a, operator: Exists}]",
			"kind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: 'web:2', imagePullPolicy: Always}], activeDeadlineSeconds: 5, tolerations: [{key: b, operator: Exists}, {key: a, operator: Exists}]}", ""},
		"pod: command": {container(""), container("command: [x]"), "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,…"},
		"pod: node":    {container("") + "  nodeName: a", container("") + "  nodeName: b", "spec: Forbidden: pod updates may not change fields other than…"},
		"pod: containers": {container(""), pod("containers: [{name: web, image: web}, {name: b, image: b}]"),
			"spec.containers: Forbidden: pod updates may not add or remove containers"},
		"pod: deadline": {container("") + "  activeDeadlineSeconds: 5", container("") + "  activeDeadlineSeconds: 6",
			"spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"},
		"pod: toleration": {container("") + "  tolerations: [{key: a, operator: Exists}]", container(""),
			"spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"},
		"pod: gates go only": {container("") + "  schedulingGates: [{name: a}]", container("") + "  schedulingGates: [{name: b}]",
			"spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'"},
		"deployment: selector": {strings.ReplaceAll(deployment, "APP", "a"), strings.ReplaceAll(deployment, "APP", "b"),
			`spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable`},
		"service: address":          {"kind: Service\nspec: {clusterIP: 10.43.0.7, ports: [{port: 80}]}", "kind: Service\nspec: {clusterIP: 10.43.0.8, ports: [{port: 80}]}", `spec.clusterIPs[0]: Invalid value: ["10.43.0.8"]: may not change once set`},
		"service: address kept":     {"kind: Service\nspec: {clusterIP: 10.43.0.7, ports: [{port: 80}]}", "kind: Service\nspec: {ports: [{port: 81}]}", ""},
		"service: becomes an alias": {"kind: Service\nspec: {clusterIP: 10.43.0.7, ports: [{port: 80}]}", "kind: Service\nspec: {clusterIP: 10.43.0.7, type: ExternalName, externalName: a.b}", ""},
		"secret: type":              {"kind: Secret\ntype: a", "kind: Secret\ntype: b", `type: Invalid value: "b": field is immutable`},
		"secret: frozen":            {"kind: Secret\nimmutable: true\nstringData: {a: b}", "kind: Secret\nstringData: {a: c}", "immutable: Forbidden: field is immutable when `immutable` is set\ndata: Forbidden: field is immutable when `immutable` is set"},
		"config map: frozen":        {"kind: ConfigMap\nimmutable: true\ndata: {a: b}", "kind: ConfigMap\nimmutable: true\ndata: {a: c}", "data: Forbidden: field is immutable when `immutable` is set"},
		"role binding: role":        {"kind: RoleBinding\nroleRef: {kind: Role, name: a}", "kind: RoleBinding\nroleRef: {kind: Role, name: b}", `roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"b"}: cannot change roleRef`},
		"node: addresses of pods":   {"kind: Node\nspec: {podCIDRs: [10.42.0.0/24]}", "kind: Node\nspec: {podCIDRs: [10.42.1.0/24]}", `spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`},
		"slice: address type":       {"kind: EndpointSlice\naddressType: IPv4", "kind: EndpointSlice\naddressType: IPv6", `addressType: Invalid value: "IPv6": field is immutable`},
	} {
		t.Run(name, func(t *testing.T) {
			k, old := object(t, c.old)
			_, new := object(t, c.new)
			k.BeforeUpdate(new, old)
			expect(t, append(k.Validate(new), k.ValidateUpdate(new, old)...), c.want)
		})
	}
}
