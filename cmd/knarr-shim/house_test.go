// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// One of these runs per container: every package it links costs each of them memory and start time.
func TestImportsAndSize(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, pkg := range strings.Fields(string(out)) {
		for _, forbidden := range []string{"net", "net/http", "crypto/tls", "regexp", "text/template", "html/template", "encoding/xml", "encoding/gob", "log/slog",
			"github.com/spf13/", "github.com/vishvananda/", "google.golang.org/", "k8s.io/", "sigs.k8s.io/", "go.etcd.io/"} {
			if pkg == forbidden || strings.HasSuffix(forbidden, "/") && strings.HasPrefix(pkg, forbidden) {
				t.Errorf("knarr-shim imports %s; it must stay small, see design.md section 1", pkg)
			}
		}
	}
	st, err := os.Stat(build(t))
	must(t, err)
	const bound = 3600 << 10
	if st.Size() > bound {
		t.Errorf("the binary has %d bytes, more than %d", st.Size(), bound)
	}
	t.Logf("the binary has %d bytes", st.Size())
}

func TestFlags(t *testing.T) {
	f := flags{"bundle": true, "b": true, "force": false}
	for line, want := range map[string]string{
		"--bundle x id":        "bundle=x;id",
		"--bundle=x --force a": "bundle=x force=true;a",
		"-b x id --force":      "b=x;id --force",
		"-- --force":           ";--force",
		"--nope":               "error: unknown option --nope",
		"--bundle":             "error: option --bundle needs a value",
	} {
		opts, rest, err := f.parse(strings.Fields(line))
		var got []string
		for _, k := range []string{"bundle", "b", "force"} {
			if v := options(opts).get(k); v != "" {
				got = append(got, k+"="+v)
			}
		}
		text := strings.Join(got, " ") + ";" + strings.Join(rest, " ")
		if err != nil {
			text = "error: " + err.Error()
		}
		if text != want {
			t.Errorf("%q: %s, want %s", line, text, want)
		}
	}
}

func TestSignalNames(t *testing.T) {
	for name, want := range map[string]int{"9": 9, "KILL": 9, "SIGTERM": 15, "hup": 1, "0": 0} {
		if got, err := parseSignal(name); err != nil || int(got) != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	if _, err := parseSignal("SIGNOPE"); err == nil {
		t.Error("SIGNOPE is accepted")
	}
}
