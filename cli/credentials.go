// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"

	"github.com/knarr/knarr/internal/atomicfile"
)

// Credentials for registries are kept where the docker client keeps them: in config.json of $DOCKER_CONFIG or ~/.docker, or
// with the helper programs (docker-credential-NAME on PATH) that the file names. What else is in the file stays as it is.

// hubKey is Docker Hub's name in config.json, from the time of the first registry protocol.
const hubKey = "https://index.docker.io/v1/"

// credentials is config.json as far as it is about registries.
type credentials struct {
	path string
	all  map[string]json.RawMessage // the file's members

	auths   map[string]registry.AuthConfig
	store   string            // helper for all registries
	helpers map[string]string // helper by registry
}

func readCredentials() (*credentials, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the credentials of registries: %w", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	c := &credentials{path: filepath.Join(dir, "config.json")}
	data, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the credentials of registries: %w", err)
	}
	if err := c.decode(data); err != nil {
		return nil, fmt.Errorf("%s: %w", c.path, err)
	}
	return c, nil
}

func (c *credentials) decode(data []byte) error {
	c.all, c.auths, c.helpers = map[string]json.RawMessage{}, map[string]registry.AuthConfig{}, map[string]string{}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, &c.all); err != nil {
		return err
	}
	for name, into := range map[string]any{"auths": &c.auths, "credsStore": &c.store, "credHelpers": &c.helpers} {
		if raw := c.all[name]; raw != nil {
			if err := json.Unmarshal(raw, into); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if c.all == nil { // the file says null
		c.all = map[string]json.RawMessage{}
	}
	if c.auths == nil {
		c.auths = map[string]registry.AuthConfig{}
	}
	return nil
}

// registryKey is the name of a registry in config.json.
func registryKey(address string) string {
	host := strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "", "docker.io", "index.docker.io", "registry-1.docker.io":
		return hubKey
	}
	return host
}

// imageRegistry is the registry of an image's name.
func imageRegistry(image string) string {
	n, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return hubKey
	}
	return registryKey(reference.Domain(n))
}

func (c *credentials) helper(key string) string {
	for _, k := range []string{key, strings.TrimPrefix(key, "https://"), registryHostOf(key)} {
		if h, ok := c.helpers[k]; ok {
			return h
		}
	}
	return c.store
}

func registryHostOf(key string) string {
	if key == hubKey {
		return "index.docker.io"
	}
	return key
}

// get answers what is known of a registry; nothing known is the zero value.
func (c *credentials) get(ctx context.Context, key string) (registry.AuthConfig, error) {
	if h := c.helper(key); h != "" {
		return helperGet(ctx, h, key)
	}
	for k, a := range c.auths {
		if registryKey(k) != key {
			continue
		}
		if a.Auth != "" {
			text, err := base64.StdEncoding.DecodeString(a.Auth)
			user, password, ok := strings.Cut(string(text), ":")
			if err != nil || !ok {
				return registry.AuthConfig{}, fmt.Errorf("%s: auths of %s: not the base64 of name:password", c.path, k)
			}
			a.Username, a.Password, a.Auth = user, strings.TrimRight(password, "\x00"), ""
		}
		if a != (registry.AuthConfig{}) {
			a.ServerAddress = key
		}
		return a, nil
	}
	return registry.AuthConfig{}, nil
}

// put keeps credentials, with the helper if there is one.
func (c *credentials) put(ctx context.Context, key string, a registry.AuthConfig) error {
	entry := registry.AuthConfig{}
	if h := c.helper(key); h != "" {
		if err := helperStore(ctx, h, key, a); err != nil {
			return err
		}
	} else if a.IdentityToken != "" {
		entry = registry.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte(a.Username + ":")), IdentityToken: a.IdentityToken}
	} else {
		entry.Auth = base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	}
	c.auths[key] = entry
	return c.write()
}

// forget removes credentials and says whether there were any.
func (c *credentials) forget(ctx context.Context, key string) (bool, error) {
	found := false
	if h := c.helper(key); h != "" {
		if _, err := runHelper(ctx, h, "erase", key); err != nil && !isNotFound(err) {
			return false, err
		}
		found = true
	}
	for k := range c.auths {
		if registryKey(k) == key {
			delete(c.auths, k)
			found = true
		}
	}
	return found, c.write()
}

func (c *credentials) write() error {
	raw, err := json.Marshal(c.auths)
	if err != nil {
		return err
	}
	c.all["auths"] = raw
	data, err := json.MarshalIndent(c.all, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return err
	}
	path := c.path
	if real, err := filepath.EvalSymlinks(path); err == nil { // some keep it elsewhere behind a link
		path = real
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}

var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// helperTime bounds a helper program: some ask a person on their own window.
const helperTime = 2 * time.Minute

type helperError struct{ name, verb, text string }

func (e *helperError) Error() string {
	return fmt.Sprintf("docker-credential-%s %s: %s", e.name, e.verb, e.text)
}

// isNotFound says whether a helper has nothing: all helpers say it with these words on stdout.
func isNotFound(err error) bool {
	var h *helperError
	return errors.As(err, &h) && strings.Contains(h.text, "credentials not found")
}

// runHelper runs docker-credential-NAME VERB with input on its stdin and answers its stdout.
func runHelper(ctx context.Context, name, verb, input string) ([]byte, error) {
	if !helperName.MatchString(name) {
		return nil, fmt.Errorf("credential helper %q: not a name", name)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+name, verb)
	cmd.Stdin = strings.NewReader(input)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		text := strings.TrimSpace(string(out))
		if text == "" {
			text = err.Error()
		}
		return nil, &helperError{name, verb, text}
	}
	return out, nil
}

// helperAnswer is the form helpers take and give credentials in.
type helperAnswer struct{ ServerURL, Username, Secret string }

// tokenUser is the user name that says that the secret is an identity token.
const tokenUser = "<token>"

func helperGet(ctx context.Context, name, key string) (registry.AuthConfig, error) {
	out, err := runHelper(ctx, name, "get", key)
	if isNotFound(err) {
		return registry.AuthConfig{}, nil
	}
	if err != nil {
		return registry.AuthConfig{}, err
	}
	var got helperAnswer
	if err := json.Unmarshal(out, &got); err != nil {
		return registry.AuthConfig{}, fmt.Errorf("docker-credential-%s get: %w", name, err)
	}
	if got.Username == tokenUser {
		return registry.AuthConfig{ServerAddress: key, IdentityToken: got.Secret}, nil
	}
	return registry.AuthConfig{ServerAddress: key, Username: got.Username, Password: got.Secret}, nil
}

func helperStore(ctx context.Context, name, key string, a registry.AuthConfig) error {
	in := helperAnswer{key, a.Username, a.Password}
	if a.IdentityToken != "" {
		in.Username, in.Secret = tokenUser, a.IdentityToken
	}
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	_, err = runHelper(ctx, name, "store", string(text))
	return err
}

// authHeader is what pull and push send for an image's registry, "" if nothing is known of it.
func authHeader(ctx context.Context, image string) (string, error) {
	c, err := readCredentials()
	if err != nil {
		return "", err
	}
	a, err := c.get(ctx, imageRegistry(image))
	if err != nil || a == (registry.AuthConfig{}) {
		return "", err
	}
	data, err := json.Marshal(a)
	return base64.URLEncoding.EncodeToString(data), err
}

// allAuths are the credentials of all registries the file names: a build may need any.
func allAuths(ctx context.Context) (map[string]registry.AuthConfig, error) {
	c, err := readCredentials()
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for k := range c.auths {
		keys[registryKey(k)] = true
	}
	for k := range c.helpers {
		keys[registryKey(k)] = true
	}
	out := map[string]registry.AuthConfig{}
	for k := range keys {
		a, err := c.get(ctx, k)
		if err != nil {
			return nil, err
		}
		if a != (registry.AuthConfig{}) {
			out[k] = a
		}
	}
	return out, nil
}
