// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/apiserver/openapi"
	"github.com/knarr/knarr/kinds"
)

// TestKubectlUnderstandsTheDocuments drives a released kubectl against a real API server.
func TestKubectlUnderstandsTheDocuments(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("there is no kubectl on this machine")
	}
	s := apiservertest.New(t, func(c *apiserver.Config) { c.OpenAPI = openapi.New(kinds.All, kinds.Virtual) })
	dir := t.TempDir()
	run := func(stdin string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), kubectl, append([]string{"--kubeconfig", s.Kubeconfig, "--cache-dir", filepath.Join(dir, "cache")}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        []string
	}{
		{"explain a nested field", "", []string{"explain", "pod.spec.containers"}, []string{"KIND:       Pod", "FIELD: containers <[]Container>", "imagePullPolicy\t<string>", "enum: Always, IfNotPresent, Never", "-required-"}},
		{"explain a group", "", []string{"explain", "deployment.spec.strategy"}, []string{"GROUP:      apps", "rollingUpdate\t<RollingUpdateDeployment>"}},
		{"explain all below", "", []string{"explain", "--recursive", "service.spec"}, []string{"targetPort\t<IntOrString>", "nodePort\t<integer>"}},
		{"explain the other version of events", "", []string{"explain", "event", "--api-version", "events.k8s.io/v1"}, []string{"GROUP:      events.k8s.io", "regarding\t<ObjectReference>"}},
		{"explain by version 2", "", []string{"explain", "pod.spec", "--output", "plaintext-openapiv2"}, []string{"containers\t<[]Object> -required-"}},
		{"explain nonsense", "", []string{"explain", "pod.spec.nonsense"}, []string{`field "nonsense" does not exist`}},
		{"strict validation", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatta: {}\n", []string{"create", "--validate=strict", "-f", "-"}, []string{`unknown field "datta"`}},
		{"create", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {colour: blue}\n", []string{"create", "--validate=strict", "-f", "-"}, []string{"configmap/a created"}},
		{"apply makes", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{name: a, port: 80}, {name: b, port: 81}]}\n", []string{"apply", "-f", "-"}, []string{"service/web created"}},
		{"apply patches", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{name: c, port: 82}, {name: b, port: 81, targetPort: 8081}]}\n", []string{"apply", "-f", "-"}, []string{"service/web configured"}},
		{"lists are merged by their keys", "", []string{"get", "service", "web", "-o", "jsonpath={range .spec.ports[*]}{.name}={.port}:{.targetPort} {end}"}, []string{"c=82:82", "b=81:8081"}},
	} {
		got := run(c.stdin, c.args...)
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: kubectl %s: %q is missing in\n%s", c.name, strings.Join(c.args, " "), w, got)
			}
		}
		if strings.Contains(got, "warning:") {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	if got := run("", "get", "service", "web", "-o", "jsonpath={.spec.ports[*].name}"); strings.Contains(got, "a") {
		t.Errorf("port a was left out and is still there: %s", got)
	}
}
