// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/knarr/knarr/apiserver/apiservertest"
)

// kubectl runs the real kubectl and returns what it printed, both streams.
func kubectl(t *testing.T, s *apiservertest.Server, stdin string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("no kubectl on this machine")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--kubeconfig", s.Kubeconfig, "--cache-dir", t.TempDir()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

const manifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:1.8", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: one, labels: {app: web}}
data: {k: v}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
`

// TestKubectl is what people type, by the real kubectl.
func TestKubectl(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	for _, step := range []struct {
		stdin string
		args  string
		want  string // in the output
		fails bool
	}{
		{args: "version", want: "Server Version: v1.37.2+knarr"},
		{stdin: manifests, args: "apply -f -", want: "deployment.apps/web created\nconfigmap/one created\nservice/web created"},
		{stdin: manifests, args: "apply -f -", want: "deployment.apps/web unchanged\nconfigmap/one unchanged\nservice/web unchanged"},
		{stdin: strings.Replace(manifests, "replicas: 2", "replicas: 3", 1), args: "apply -f -", want: "deployment.apps/web configured"},
		{args: "get deploy -o wide", want: "READY"},
		{args: "get deploy web -o jsonpath={.spec.replicas},{.metadata.generation}", want: "3,2"},
		{args: "get deploy,cm,svc -l app=web -o name", want: "deployment.apps/web\nconfigmap/one\n"},
		{args: "scale deploy web --replicas=5", want: "deployment.apps/web scaled"},
		{args: "set image deploy/web c=nginx:2", want: "deployment.apps/web image updated"},
		{args: "label cm one x=y", want: "configmap/one labeled"},
		{args: "annotate cm one x=y", want: "configmap/one annotated"},
		{args: `patch cm one --type=json -p=[{"op":"add","path":"/data/z","value":"1"}]`, want: "configmap/one patched"},
		{args: `patch cm one --type=merge -p={"data":{"z":null}}`, want: "configmap/one patched"},
		{args: "get cm one -o yaml", want: "data:\n  k: v\nkind: ConfigMap"},
		{args: "get cm nothing", want: `Error from server (NotFound): configmaps "nothing" not found`, fails: true},
		{stdin: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndatta: {}\n", args: "create --validate=strict -f -",
			want: `strict decoding error: unknown field "datta"`, fails: true},
		{stdin: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: warned}\ndatta: {}\n", args: "create --validate=warn -f -", want: `Warning: unknown field "datta"`},
		{stdin: "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: c}]}\n", args: "create -f -",
			want: "spec.containers[0].image: Required value", fails: true},
		{stdin: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {a: b}\n", args: "apply --server-side -f -", want: "configmap/ssa serverside-applied"},
		{stdin: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {a: c}\n", args: "apply --server-side --field-manager=other -f -", want: `conflict with "kubectl"`, fails: true},
		{args: "run p --image=x --restart=Never", want: "pod/p created"},
		{args: "get pods", want: "Pending"},
		{args: "get pods -o wide", want: "NOMINATED NODE"},
		{args: "describe pod p", want: "Service Account:  default"},
		{args: "delete pod p", want: `pod "p" deleted`},
		{args: "auth can-i delete nodes", want: "yes"},
		{args: "auth can-i delete nodes --as=ann", want: "no", fails: true},
		{args: "auth can-i --list --as=ann", want: "selfsubjectaccessreviews.authorization.k8s.io"},
		{args: "auth whoami", want: "system:admin"},
		{args: "get pods --as=ann", want: `pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the namespace "default"`, fails: true},
		{args: "create token default", want: "ey"},
		{args: "create ns n", want: "namespace/n created"},
		{args: "create cm x --from-literal=a=b -n n --dry-run=server", want: "configmap/x created (server dry run)"},
		{args: "get cm -n n", want: "No resources found in n namespace."},
		{args: "get --raw /readyz?verbose", want: "[+]etcd ok"},
		{args: "get --raw /metrics", want: "apiserver_request_total{"},
		{args: "explain deploy.spec.replicas", want: "FIELD: replicas"},
		{args: "wait --for=jsonpath={.data.k}=v cm/one --timeout=5s", want: "configmap/one condition met"},
		{args: "api-resources --verbs=list -o name", want: "endpointslices.discovery.k8s.io"},
		{args: "delete deploy/web cm/one svc/web", want: `service "web" deleted`},
	} {
		out, err := kubectl(t, s, step.stdin, strings.Fields(step.args)...)
		if (err != nil) != step.fails || !strings.Contains(out, step.want) {
			t.Errorf("kubectl %s: %v; want %q in\n%s", step.args, err, step.want, out)
		}
	}
}
