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

// must is kubectl that has to succeed.
func must(t *testing.T, s *apiservertest.Server, stdin string, args ...string) string {
	t.Helper()
	out, err := kubectl(t, s, stdin, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

const configMap = `
apiVersion: v1
kind: ConfigMap
metadata: {name: one, labels: {a: b}}
data: {k: v}
`

func TestKubectlConfigMap(t *testing.T) {
	s := apiservertest.New(t)
	t.Log(must(t, s, "", "version"))
	t.Log(must(t, s, "", "get", "ns"))
	t.Log(must(t, s, configMap, "create", "--validate=false", "-f", "-"))
	t.Log(must(t, s, "", "get", "cm", "-o", "wide"))
	t.Log(must(t, s, "", "get", "cm", "one", "-o", "yaml"))
	t.Log(must(t, s, "", "get", "svc,ep,endpointslices", "-A"))
	t.Log(must(t, s, "", "delete", "cm", "one"))
	t.Log(must(t, s, "", "api-resources"))
}
