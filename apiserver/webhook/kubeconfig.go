// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/knarr/knarr/internal/errs"
)

// kubeconfig is what is read of one: upstream describes authentication and authorization webhooks in this form.
type kubeconfig struct {
	CurrentContext string `json:"current-context"`
	Clusters       []struct {
		Name    string `json:"name"`
		Cluster struct {
			Server        string `json:"server"`
			CA            string `json:"certificate-authority"`
			CAData        []byte `json:"certificate-authority-data"`
			TLSServerName string `json:"tls-server-name"`
			Insecure      bool   `json:"insecure-skip-tls-verify"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string `json:"name"`
		User struct {
			Token     string `json:"token"`
			TokenFile string `json:"tokenFile"`
			Cert      string `json:"client-certificate"`
			CertData  []byte `json:"client-certificate-data"`
			Key       string `json:"client-key"`
			KeyData   []byte `json:"client-key-data"`
		} `json:"user"`
	} `json:"users"`
	Contexts []struct {
		Name    string `json:"name"`
		Context struct {
			Cluster string `json:"cluster"`
			User    string `json:"user"`
		} `json:"context"`
	} `json:"contexts"`
}

// FromKubeconfig reads the server that the current context of a kubeconfig file names. Paths in it are relative to it.
func FromKubeconfig(path string) (Target, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Target{}, fmt.Errorf("read webhook configuration: %w", err)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(data, &k); err != nil {
		return Target{}, errs.New(errs.Invalid, "webhook configuration %s: %w", path, err)
	}
	t, err := k.target(filepath.Dir(path))
	if err != nil {
		return Target{}, fmt.Errorf("webhook configuration %s: %w", path, err)
	}
	return t, nil
}

func (k *kubeconfig) target(dir string) (Target, error) {
	var t Target
	cluster, user := "", ""
	for _, c := range k.Contexts {
		if c.Name == k.CurrentContext {
			cluster, user = c.Context.Cluster, c.Context.User
		}
	}
	read := func(data []byte, file string) ([]byte, error) {
		if len(data) > 0 || file == "" {
			return data, nil
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		return os.ReadFile(file)
	}
	for _, c := range k.Clusters {
		if c.Name != cluster {
			continue
		}
		ca, err := read(c.Cluster.CAData, c.Cluster.CA)
		if err != nil {
			return t, err
		}
		t.URL, t.CA, t.ServerName, t.Insecure = c.Cluster.Server, ca, c.Cluster.TLSServerName, c.Cluster.Insecure
	}
	if t.URL == "" {
		return t, errs.New(errs.Invalid, "the current context %q names no cluster with a server", k.CurrentContext)
	}
	for _, u := range k.Users {
		if u.Name != user {
			continue
		}
		token, err := read([]byte(u.User.Token), u.User.TokenFile)
		if err != nil {
			return t, err
		}
		t.Token = string(token)
		cert, err := read(u.User.CertData, u.User.Cert)
		if err != nil || len(cert) == 0 {
			return t, err
		}
		key, err := read(u.User.KeyData, u.User.Key)
		if err != nil {
			return t, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return t, err
		}
		t.Certificate = &pair
	}
	return t, nil
}
