// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/scripts/*.txtar against one cluster, as a person would type them. A script has knarr, kubectl
// and docker on its PATH, the folder of a Dockerfile and the program "payload" in $PAYLOAD, a namespace of its own for
// kubectl, the registries $REGISTRY and $LOCKED_REGISTRY (for ann, password secret), and these commands beside testscript's:
//
//	eventually [!] COMMAND ARGS…   run it again until it succeeds (with !, fails), for at most 30 s
func TestScripts(t *testing.T) {
	needRoot(t)
	bin := buildBinaries(t)
	i := newInstance(t, bin)
	i.up(t)
	i.buildPayload(t)
	open, locked := startRegistries(t)
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: "testdata/scripts",
			Setup: func(e *testscript.Env) error {
				e.Vars = append(e.Vars, i.env...)
				name := strings.ReplaceAll(strings.ToLower(filepath.Base(e.WorkDir)), "_", "-")
				ns := strings.TrimPrefix(name, "script-")
				examples, err := filepath.Abs("../examples")
				if err != nil {
					return err
				}
				e.Vars = append(e.Vars, "EXAMPLES="+examples)
				e.Vars = append(e.Vars, "PAYLOAD="+filepath.Join(i.data, "payload"), "NS="+ns, "HOME="+e.WorkDir, "REGISTRY="+open, "LOCKED_REGISTRY="+locked)
				i.must(t, "kubectl", "create", "namespace", ns)
				own := filepath.Join(e.WorkDir, ".kubeconfig")
				e.Vars = append(e.Vars, "KUBECONFIG="+own)
				kubeconfig, err := os.ReadFile(filepath.Join(i.data, "kubeconfig"))
				if err != nil {
					return err
				}
				if err := os.WriteFile(own, kubeconfig, 0o600); err != nil {
					return err
				}
				i.must(t, "kubectl", "--kubeconfig", own, "config", "set-context", "--current", "--namespace="+ns)
				return nil
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){"eventually": eventuallyCommand},
		})
	})
	i.must(t, "knarr", append([]string{"fsck", "--deep"}, i.flags()...)...) // whatever the scripts did
}

func eventuallyCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: eventually COMMAND ARGS…")
	}
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if err = ts.Exec(args[0], args[1:]...); (err == nil) != neg {
			return
		}
	}
	ts.Fatalf("%s: still %v after 30 s", strings.Join(args, " "), err)
}

// buildPayload builds the image "payload" from scratch with knarr build.
func (i *instance) buildPayload(t *testing.T) {
	t.Helper()
	dir := filepath.Join(i.data, "payload")
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(i.bin, "payload"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"Dockerfile": "FROM scratch\nCOPY payload /payload\nCOPY etc /etc\nENV PATH=/\nEXPOSE 80\nENTRYPOINT [\"/payload\"]\n",
		"etc/passwd": "root:x:0:0:root:/:/payload\nweb:x:1000:1000:web:/:/payload\n", "payload": string(program),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	i.must(t, "knarr", "build", "-q", "-t", "payload", dir)
}
