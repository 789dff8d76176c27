// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"sigs.k8s.io/yaml"
)

// Kubeconfig is a client configuration that reaches server as u. It carries the keys: write it 0600.
func (a *Authority) Kubeconfig(server, cluster string, u User) ([]byte, error) {
	pair, err := a.Client(u)
	if err != nil {
		return nil, err
	}
	type object = map[string]any
	return yaml.Marshal(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": cluster,
		"clusters": []object{{"name": cluster, "cluster": object{
			"server": server, "certificate-authority-data": a.ca.pem,
		}}},
		"users": []object{{"name": u.Name, "user": object{
			"client-certificate-data": pair.Cert, "client-key-data": pair.Key,
		}}},
		"contexts": []object{{"name": cluster, "context": object{"cluster": cluster, "user": u.Name}}},
	})
}
