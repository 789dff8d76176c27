// SPDX-License-Identifier: Apache-2.0

// Package auth says who is asking and what they may do.
//
// It owns the cluster's certificate authority and the key that signs ServiceAccount tokens (Authority), the reading of
// credentials from a request (Authenticator), and the authorizers, asked in this order: the group system:masters, the Node
// authorizer, RBAC. The bootstrap roles are here too (roles.go), because they are what the authorizers run on.
//
// Each decision reads one snapshot of the cache; the package writes nothing to the API.
//
// Invariants: an unknown, empty or unreadable credential is never anonymous but refused; keys are P-256 and files are 0600
// in a 0700 folder; a certificate with less than a third of its life left is replaced the next time it is asked for, while
// running. Everything fails closed.
//
// Goroutines: none. Files: ca.crt ca.key front-proxy-ca.crt front-proxy-ca.key serving.crt serving.key sa.key join-token client-<name>.crt client-<name>.key.
package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/knarr/knarr/internal/atomicfile"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	certLife = 365 * 24 * time.Hour
	// backdate lets a machine whose clock is a little behind accept a new certificate.
	backdate = time.Hour
)

// Authority has the cluster's keys: it issues certificates and tokens, and verifies them. Safe for concurrent use.
type Authority struct {
	dir    string
	names  []string // of the serving certificate
	now    func() time.Time
	issuer string

	ca     *issuer // of the cluster's own parts and users
	front  *issuer // of proxies that speak for users (frontproxy.go)
	signer *tokenSigner

	mu      sync.Mutex // guards serving
	serving *tls.Certificate
}

// issuer is one certificate authority.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

func (i *issuer) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.cert)
	return p
}

// Pair is a certificate with its key, PEM-encoded.
type Pair struct{ Cert, Key []byte }

// Open reads the keys in dir, making those that are missing. names are what the serving certificate is for; issuer is
// the URL in ServiceAccount tokens.
func Open(dir string, names []string, issuer string, now func() time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open pki: %w", err)
	}
	a := &Authority{dir: dir, names: names, now: now, issuer: issuer}
	var err error
	if a.ca, err = a.openCA("ca", "knarr-ca"); err != nil {
		return nil, fmt.Errorf("open certificate authority in %s: %w", dir, err)
	}
	if a.front, err = a.openCA("front-proxy-ca", "knarr-front-proxy-ca"); err != nil {
		return nil, fmt.Errorf("open the front proxies' certificate authority in %s: %w", dir, err)
	}
	key, err := a.openKey("sa.key")
	if err != nil {
		return nil, fmt.Errorf("open token key in %s: %w", dir, err)
	}
	if a.signer, err = newTokenSigner(key); err != nil {
		return nil, fmt.Errorf("open token key in %s: %w", dir, err)
	}
	if _, err := a.Serving(nil); err != nil {
		return nil, err
	}
	return a, nil
}

// CA is the certificate of the authority, PEM-encoded.
func (a *Authority) CA() []byte { return a.ca.pem }

// Pool has the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool { return a.ca.pool() }

// Serving is the API server's certificate, renewed when less than a third of its life is left or a name is missing; it
// has the signature of tls.Config.GetCertificate.
func (a *Authority) Serving(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.serving != nil && a.fresh(a.serving.Leaf) {
		return a.serving, nil
	}
	pair, err := a.stored(a.ca, "serving", func(c *x509.Certificate) bool { return covers(c, a.names) }, a.servingTemplate("kube-apiserver", a.names))
	if err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	cert, err := pair.TLS()
	if err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	a.serving = cert
	return cert, nil
}

// Client is a certificate that authenticates as u, kept in the pki folder and renewed as Serving is.
func (a *Authority) Client(u User) (Pair, error) {
	groups := slices.DeleteFunc(slices.Clone(u.Groups), func(g string) bool { return g == Authenticated })
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: u.Name, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	same := func(c *x509.Certificate) bool {
		return c.Subject.CommonName == u.Name && slices.Equal(sorted(c.Subject.Organization), sorted(groups))
	}
	pair, err := a.stored(a.ca, "client-"+fileName(u.Name), same, template)
	if err != nil {
		return Pair{}, fmt.Errorf("client certificate of %s: %w", u.Name, err)
	}
	return pair, nil
}

// Server is a certificate for another server of the cluster, such as a kubelet, valid for the given names and addresses.
// It is not kept: the caller owns it.
func (a *Authority) Server(commonName string, names []string) (Pair, error) {
	return a.issue(a.ca, a.servingTemplate(commonName, names))
}

// TLS is the pair as crypto/tls wants it, with Leaf set.
func (p Pair) TLS() (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, err
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, err
		}
	}
	return &cert, nil
}

// openCA reads an authority, or makes it.
func (a *Authority) openCA(name, commonName string) (*issuer, error) {
	key, err := a.openKey(name + ".key")
	if err != nil {
		return nil, err
	}
	i := &issuer{key: key}
	path := filepath.Join(a.dir, name+".crt")
	i.pem, err = os.ReadFile(path)
	if err == nil {
		i.cert, err = parseCert(i.pem)
		return i, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
	}
	if i.pem, err = a.sign(template, template, key.Public(), key, caLife); err != nil {
		return nil, err
	}
	if i.cert, err = parseCert(i.pem); err != nil {
		return nil, err
	}
	return i, atomicfile.Write(path, i.pem, 0o600)
}

func (a *Authority) openKey(name string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(a.dir, name)
	data, err := os.ReadFile(path)
	if err == nil {
		return parseKey(data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	data, err = encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, atomicfile.Write(path, data, 0o600)
}

// stored reads the pair name, or issues it from template when it is missing, old, of another authority, or unfit.
// The key is written first and the certificate last: a crash in between leaves a pair that does not match and is replaced.
func (a *Authority) stored(by *issuer, name string, fits func(*x509.Certificate) bool, template *x509.Certificate) (Pair, error) {
	certPath, keyPath := filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	cert, certErr := os.ReadFile(certPath)
	key, keyErr := os.ReadFile(keyPath)
	if certErr == nil && keyErr == nil {
		pair := Pair{Cert: cert, Key: key}
		if c, err := pair.TLS(); err == nil && a.fresh(c.Leaf) && c.Leaf.CheckSignatureFrom(by.cert) == nil && fits(c.Leaf) {
			return pair, nil
		}
	}
	pair, err := a.issue(by, template)
	if err != nil {
		return Pair{}, err
	}
	if err := atomicfile.Write(keyPath, pair.Key, 0o600); err != nil {
		return Pair{}, err
	}
	return pair, atomicfile.Write(certPath, pair.Cert, 0o600)
}

func (a *Authority) issue(by *issuer, template *x509.Certificate) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	cert, err := a.sign(template, by.cert, key.Public(), by.key, certLife)
	if err != nil {
		return Pair{}, err
	}
	keyPEM, err := encodeKey(key)
	return Pair{Cert: cert, Key: keyPEM}, err
}

func (a *Authority) sign(template, parent *x509.Certificate, public, key any, life time.Duration) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := a.now()
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(life)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func (a *Authority) servingTemplate(commonName string, names []string) *x509.Certificate {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return t
}

// fresh: valid now, and more than a third of its life is left.
func (a *Authority) fresh(c *x509.Certificate) bool {
	now := a.now()
	return now.After(c.NotBefore) && c.NotAfter.Sub(now) > c.NotAfter.Sub(c.NotBefore)/3
}

func covers(c *x509.Certificate, names []string) bool {
	for _, n := range names {
		if c.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}

func parseCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM certificate in the file")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM key in the file")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("want an ECDSA key, found %T", key)
	}
	return k, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// fileName makes a user name fit for a file: letters, digits, dot and dash stay, the rest becomes hex.
func fileName(name string) string {
	var b []byte
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.':
			b = append(b, c)
		default:
			b = fmt.Appendf(b, "_%02x", c)
		}
	}
	return string(b)
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}
