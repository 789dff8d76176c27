// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// Joiner is who shows the join token: a machine that wants to become a node.
func Joiner() User {
	return User{Name: "system:bootstrap:knarr", Groups: []string{Bootstrappers, Authenticated}}
}

// Bootstrappers may ask to become nodes, and nothing else.
const Bootstrappers = "system:bootstrappers"

// A join token is "knarr." + fingerprint of the CA + "." + secret: the first tells the new node whom to trust, the second
// tells the server to trust the node.
const joinPrefix = "knarr."

// JoinToken is what `knarr join` needs. It is made once and kept in the file join-token; to end its validity, remove the file.
func (a *Authority) JoinToken() (string, error) {
	path := filepath.Join(a.dir, "join-token")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("join token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if print, ok := SplitJoinToken(token); ok && print == Fingerprint(a.ca.pem) {
		return token, nil
	}
	token = joinPrefix + Fingerprint(a.ca.pem) + "." + strings.ToLower(rand.Text())
	if err := atomicfile.Write(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	return token, nil
}

// Fingerprint is the SHA-256 of a PEM file, in hex.
func Fingerprint(pemFile []byte) string {
	sum := sha256.Sum256(pemFile)
	return hex.EncodeToString(sum[:])
}

// SplitJoinToken gives the CA's fingerprint; false: it is no join token.
func SplitJoinToken(token string) (fingerprint string, ok bool) {
	rest, ok := strings.CutPrefix(token, joinPrefix)
	fingerprint, secret, found := strings.Cut(rest, ".")
	return fingerprint, ok && found && secret != "" && len(fingerprint) == hex.EncodedLen(sha256.Size)
}

// joiner compares a bearer token with the join token.
func (a *Authority) joiner(token string) (User, bool) {
	if !strings.HasPrefix(token, joinPrefix) {
		return User{}, false
	}
	want, err := a.JoinToken()
	if err != nil || subtle.ConstantTimeCompare([]byte(want), []byte(token)) != 1 {
		return User{}, false
	}
	return Joiner(), true
}

// SignNode issues the two certificates of a node: of its client, and of its kubelet's server for the given addresses. Of the
// requests (PKCS #10, PEM) only the keys are taken: the names are the server's word.
func (a *Authority) SignNode(node string, addresses []string, client, server []byte) (clientCert, serverCert []byte, err error) {
	u := Node(node)
	clientTemplate := &x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	clientTemplate.Subject.CommonName, clientTemplate.Subject.Organization = u.Name, []string{Nodes}
	if clientCert, err = a.signRequest(client, clientTemplate); err != nil {
		return nil, nil, fmt.Errorf("client certificate of node %s: %w", node, err)
	}
	serverTemplate := a.servingTemplate(u.Name, append([]string{node}, addresses...))
	serverTemplate.Subject.Organization = []string{Nodes}
	serverTemplate.KeyUsage = x509.KeyUsageDigitalSignature
	if serverCert, err = a.signRequest(server, serverTemplate); err != nil {
		return nil, nil, fmt.Errorf("serving certificate of node %s: %w", node, err)
	}
	return clientCert, serverCert, nil
}

func (a *Authority) signRequest(request []byte, template *x509.Certificate) ([]byte, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errs.New(errs.Invalid, "want a PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "read the certificate request: %w", err)
	}
	return a.sign(template, a.ca.cert, csr.PublicKey, a.ca.key, certLife)
}
