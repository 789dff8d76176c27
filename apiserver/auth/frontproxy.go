// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
)

// Front proxies speak for users: they authenticate them and say in headers who they are. Aggregated API servers believe
// this server in that way, and this server believes those whose certificate is of the front proxies' authority. That
// authority is none other's: who has a certificate of the cluster's cannot speak for others.

// FrontProxyClient is the common name this server shows when it speaks for users.
const FrontProxyClient = "front-proxy-client"

// The headers, as extension-apiserver-authentication publishes them.
const (
	RemoteUser        = "X-Remote-User"
	RemoteUID         = "X-Remote-Uid"
	RemoteGroup       = "X-Remote-Group"
	RemoteExtraPrefix = "X-Remote-Extra-"
)

// ExtensionConfig is the ConfigMap of kube-system by which aggregated API servers know all this.
const ExtensionConfig = "extension-apiserver-authentication"

// ExtensionReader is the role that may read ExtensionConfig, for aggregated API servers to be bound to, and who is already.
func ExtensionReader() (*rbacv1.Role, *rbacv1.RoleBinding) {
	r := role(ExtensionConfig+"-reader", rbacv1.PolicyRule{
		Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{ExtensionConfig},
	})
	meta := metav1.ObjectMeta{Name: r.Name, Namespace: metav1.NamespaceSystem, Labels: r.Labels, Annotations: r.Annotations}
	bound := *meta.DeepCopy()
	bound.Name = "system::" + r.Name
	b := &rbacv1.RoleBinding{ObjectMeta: bound, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: r.Name}}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		b.Subjects = append(b.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: Component(name).Name})
	}
	return &rbacv1.Role{ObjectMeta: meta, Rules: r.Rules}, b
}

// FrontProxyCA is the certificate, PEM-encoded, that those who are spoken to trust.
func (a *Authority) FrontProxyCA() []byte { return a.front.pem }

// FrontProxy is what this server shows to those it speaks to for others, kept and renewed as Client's.
func (a *Authority) FrontProxy() (Pair, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: FrontProxyClient},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	same := func(c *x509.Certificate) bool { return c.Subject.CommonName == FrontProxyClient }
	pair, err := a.stored(a.front, FrontProxyClient, same, template)
	if err != nil {
		return Pair{}, fmt.Errorf("front proxy certificate: %w", err)
	}
	return pair, nil
}

// SetRemote says in h that u asks. What h said before of that is removed.
func SetRemote(h http.Header, u User) {
	StripRemote(h)
	h.Set(RemoteUser, u.Name)
	if u.UID != "" {
		h.Set(RemoteUID, u.UID)
	}
	for _, g := range u.Groups {
		h.Add(RemoteGroup, g)
	}
	for key, values := range u.Extra {
		for _, v := range values {
			h.Add(RemoteExtraPrefix+escapeKey(key), v)
		}
	}
}

// StripRemote removes all that SetRemote says.
func StripRemote(h http.Header) {
	for k := range h {
		if strings.HasPrefix(http.CanonicalHeaderKey(k), "X-Remote-") {
			delete(h, k)
		}
	}
}

// escapeKey writes what may not be in the name of a header, and the percent sign, as %2f.
func escapeKey(key string) string {
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; c != '%' && validHeaderByte(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

func validHeaderByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// frontProxies are those this server believes.
type frontProxies struct {
	roots *x509.CertPool
	names []string // common names; empty: any
}

// newFrontProxies believes the authority's own, and those of file with one of the names.
func newFrontProxies(a *Authority, file string, names []string) ([]frontProxies, error) {
	list := []frontProxies{{a.front.pool(), []string{FrontProxyClient}}}
	if file == "" {
		return list, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the front proxies' certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errs.New(errs.Invalid, "%s holds no certificate", file)
	}
	return append(list, frontProxies{pool, names}), nil
}

// verified reports whether the certificate is of one that may speak for others.
func (f frontProxies) verified(o x509.VerifyOptions, c *x509.Certificate) bool {
	o.Roots = f.roots
	_, err := c.Verify(o)
	return err == nil && (len(f.names) == 0 || slices.Contains(f.names, c.Subject.CommonName))
}

// remote reads for whom a front proxy speaks, and removes it from the request.
func remote(r *http.Request) (User, error) {
	u := User{Name: r.Header.Get(RemoteUser), UID: r.Header.Get(RemoteUID), Groups: slices.Clone(r.Header.Values(RemoteGroup))}
	for k, values := range r.Header {
		key, ok := strings.CutPrefix(http.CanonicalHeaderKey(k), RemoteExtraPrefix)
		if !ok {
			continue
		}
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		key = strings.ToLower(key)
		u.Extra[key] = append(u.Extra[key], values...)
	}
	StripRemote(r.Header)
	if u.Name == "" {
		return User{}, errs.New(errs.Unauthentic, "the front proxy does not say for whom it speaks (%s)", RemoteUser)
	}
	if u.Name != Anonymous && !u.In(Authenticated) {
		u.Groups = append(u.Groups, Authenticated)
	}
	return u, nil
}
