// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/registry"
)

// keychain is a credential helper that keeps its entries in a file, as a shell script.
const keychain = `#!/bin/sh
case "$1" in
store) cat > "$KEYCHAIN" ;;
get) if [ -f "$KEYCHAIN" ] && grep -q "$(cat)" "$KEYCHAIN"; then cat "$KEYCHAIN"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f "$KEYCHAIN" ;;
esac
`

func TestCredentialsInTheFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	file := filepath.Join(dir, "config.json")
	// What other programs keep in the file stays.
	if err := os.WriteFile(file, []byte(`{"psFormat":"x","auths":{"https://old.example/v1/":{"auth":"YTpi"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readCredentials()
	if err != nil {
		t.Fatal(err)
	}
	if a, err := c.get(t.Context(), registryKey("old.example")); err != nil || a.Username != "a" || a.Password != "b" {
		t.Errorf("by host: %+v %v", a, err)
	}
	for _, address := range []string{"", "127.0.0.1:5000"} {
		if err := c.put(t.Context(), registryKey(address), registry.AuthConfig{Username: "ann", Password: "p:w"}); err != nil {
			t.Fatal(err)
		}
	}
	if c, err = readCredentials(); err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{"nginx": "ann p:w", "127.0.0.1:5000/x:v1": "ann p:w", "other.example/x": " "} {
		if a, err := c.get(t.Context(), imageRegistry(image)); err != nil || a.Username+" "+a.Password != want {
			t.Errorf("%s: %+v %v", image, a, err)
		}
	}
	if found, err := c.forget(t.Context(), registryKey("127.0.0.1:5000")); !found || err != nil {
		t.Errorf("forget: %v %v", found, err)
	}
	data, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(data), `"psFormat": "x"`) || strings.Contains(string(data), "127.0.0.1") || !strings.Contains(string(data), hubKey) {
		t.Errorf("%s %v", data, err)
	}
	if fi, _ := os.Stat(file); fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", fi.Mode().Perm())
	}
}

func TestCredentialHelpers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("KEYCHAIN", filepath.Join(dir, "keychain"))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(keychain), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]string{"for all": `{"credsStore":"test"}`, "for one": `{"credHelpers":{"reg.example":"test"}}`} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := readCredentials()
		if err != nil {
			t.Fatal(err)
		}
		if a, err := c.get(t.Context(), "reg.example"); err != nil || a != (registry.AuthConfig{}) {
			t.Errorf("%s: nothing kept: %+v %v", name, a, err)
		}
		for _, in := range []registry.AuthConfig{{Username: "ann", Password: "secret"}, {Username: "ann", IdentityToken: "tok"}} {
			if err := c.put(t.Context(), "reg.example", in); err != nil {
				t.Fatal(err)
			}
			a, err := c.get(t.Context(), "reg.example")
			if err != nil || a.Password != in.Password || a.IdentityToken != in.IdentityToken {
				t.Errorf("%s: %+v %v", name, a, err)
			}
		}
		data, _ := os.ReadFile(filepath.Join(dir, "config.json"))
		if strings.Contains(string(data), "auth\":") || !strings.Contains(string(data), "test") {
			t.Errorf("%s: %s", name, data)
		}
		if _, err := c.forget(t.Context(), "reg.example"); err != nil {
			t.Errorf("%s: forget: %v", name, err)
		}
		if a, err := c.get(t.Context(), "reg.example"); err != nil || a != (registry.AuthConfig{}) {
			t.Errorf("%s: after logout: %+v %v", name, a, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"credsStore":"../evil"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readCredentials()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.get(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "not a name") {
		t.Errorf("a helper that is a path: %v", err)
	}
}

func FuzzDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"x":{"auth":"YTpi"}},"credsStore":""}`))
	f.Add([]byte(`{"auths":null,"credHelpers":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &credentials{path: "config.json"}
		if c.decode(data) != nil || c.store != "" || len(c.helpers) > 0 {
			return
		}
		for k := range c.auths {
			c.get(t.Context(), registryKey(k)) // must not panic
		}
		c.auths["new"] = registry.AuthConfig{}
		c.all["auths"] = json.RawMessage("{}")
	})
}
