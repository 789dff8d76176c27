// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"crypto/x509"
	"testing"
)

func pool(t *testing.T, pem []byte) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the CA data")
	}
	return p
}
