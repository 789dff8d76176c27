// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/apiserver/auth"
)

// whoami is the user a token makes, "" when it is refused.
func whoami(t *testing.T, s *apiservertest.Server, token string) (string, []string) {
	t.Helper()
	c := clientset(t, s)
	r, err := c.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	code, _ := raw(t, s, token, "GET", "/healthz")
	if (code == 200) != r.Status.Authenticated {
		t.Errorf("the review says %v, a request is answered %d", r.Status.Authenticated, code)
	}
	return r.Status.User.Username, r.Status.User.Groups
}

func caOf(srv *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStaticAndBootstrapTokens(t *testing.T) {
	file := write(t, "tokens.csv", []byte("# who\nsecret-1,ann,7,\"dev,ops\"\nsecret-2,bob,8\n"))
	s := apiservertest.New(t, func(c *apiserver.Config) { c.Auth.TokenFile = file })
	if u, groups := whoami(t, s, "secret-1"); u != "ann" || strings.Join(groups, " ") != "dev ops system:authenticated" {
		t.Errorf("%s %v", u, groups)
	}
	if u, _ := whoami(t, s, "secret-3"); u != "" {
		t.Errorf("an unknown token is %s", u)
	}
	c := clientset(t, s)
	secret := func(id, expires, use string) {
		_, err := c.CoreV1().Secrets("kube-system").Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id}, Type: "bootstrap.kubernetes.io/token",
			StringData: map[string]string{"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": use, "expiration": expires,
				"auth-extra-groups": "system:bootstrappers:workers"},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	secret("livein", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "true")
	secret("ended0", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "true")
	secret("unused", "", "false")
	eventually(t, "the token counts", func() bool { u, _ := whoami(t, s, "livein.0123456789abcdef"); return u == "system:bootstrap:livein" })
	_, groups := whoami(t, s, "livein.0123456789abcdef")
	if strings.Join(groups, " ") != "system:bootstrappers system:bootstrappers:workers system:authenticated" {
		t.Errorf("groups %v", groups)
	}
	for _, bad := range []string{"livein.0123456789abcdee", "ended0.0123456789abcdef", "unused.0123456789abcdef", "nobody.0123456789abcdef"} {
		if u, _ := whoami(t, s, bad); u != "" {
			t.Errorf("%s is %s", bad, u)
		}
	}
}

func TestOIDC(t *testing.T) {
	newKey := func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first, second := newKey(), newKey()
	var issuer string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": issuer + "/keys"})
		case "/keys":
			set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: first.Public(), KeyID: "first", Algorithm: "RS256", Use: "sig"}}}
			_ = json.NewEncoder(w).Encode(set)
		}
	}))
	defer srv.Close()
	issuer = srv.URL
	token := func(key *rsa.PrivateKey, id string, edit func(map[string]any)) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		claims := map[string]any{"iss": issuer, "aud": "knarr", "exp": time.Now().Add(time.Hour).Unix(), "sub": "42", "name": "ann", "teams": []string{"dev"}, "hd": "example.com"}
		if edit != nil {
			edit(claims)
		}
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ca := write(t, "ca.crt", caOf(srv))
	s := apiservertest.New(t, func(c *apiserver.Config) {
		c.Auth.OIDC = auth.OIDC{IssuerURL: issuer, ClientID: "knarr", UsernameClaim: "name", UsernamePrefix: "oidc:", GroupsClaim: "teams", GroupsPrefix: "team-",
			CAFile: ca, RequiredClaims: map[string]string{"hd": "example.com"}}
	})
	if u, groups := whoami(t, s, token(first, "first", nil)); u != "oidc:ann" || strings.Join(groups, " ") != "team-dev system:authenticated" {
		t.Errorf("%s %v", u, groups)
	}
	for rule, bad := range map[string]string{
		"another key":      token(second, "first", nil),
		"for somebody":     token(first, "first", func(c map[string]any) { c["aud"] = "other" }),
		"ended":            token(first, "first", func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }),
		"never ends":       token(first, "first", func(c map[string]any) { delete(c, "exp") }),
		"another domain":   token(first, "first", func(c map[string]any) { c["hd"] = "example.org" }),
		"no name":          token(first, "first", func(c map[string]any) { delete(c, "name") }),
		"no issuer we ask": token(first, "first", func(c map[string]any) { c["iss"] = "https://example.org" }),
	} {
		if u, _ := whoami(t, s, bad); u != "" {
			t.Errorf("%s: %s", rule, u)
		}
	}
	if u, groups := whoami(t, s, token(first, "first", nil)); u == "" {
		t.Errorf("a good token after bad ones: %v", groups)
	}
}

func TestTokenAndAuthorizationWebhooks(t *testing.T) {
	var asked atomic.Int32
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/authn":
			var q authenticationv1.TokenReview
			_ = json.NewDecoder(r.Body).Decode(&q)
			q.Status.Authenticated = q.Spec.Token == "from-outside"
			q.Status.User = authenticationv1.UserInfo{Username: "outsider", Groups: []string{"guests"}}
			_ = json.NewEncoder(w).Encode(q)
		case "/authz":
			var q authorizationv1.SubjectAccessReview
			_ = json.NewDecoder(r.Body).Decode(&q)
			q.Status.Allowed = q.Spec.User == "outsider" && q.Spec.ResourceAttributes != nil && q.Spec.ResourceAttributes.Resource == "configmaps"
			_ = json.NewEncoder(w).Encode(q)
		}
	}))
	defer srv.Close()
	config := func(path string) string {
		b, _ := json.Marshal(map[string]any{
			"current-context": "x", "contexts": []any{map[string]any{"name": "x", "context": map[string]string{"cluster": "c"}}},
			"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": srv.URL + path, "certificate-authority-data": caOf(srv)}}},
		})
		return write(t, "kubeconfig", b)
	}
	s := apiservertest.New(t, func(c *apiserver.Config) {
		c.TokenWebhook, c.AuthorizationWebhook = config("/authn"), config("/authz")
	})
	for range 2 {
		if code, body := raw(t, s, "from-outside", "GET", "/api/v1/namespaces/default/configmaps"); code != 200 {
			t.Errorf("%d %s", code, body)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("%d questions were asked, want 2: answers are remembered", n)
	}
	if code, _ := raw(t, s, "from-outside", "GET", "/api/v1/namespaces/default/secrets"); code != 403 {
		t.Errorf("secrets: %d", code)
	}
	if code, _ := raw(t, s, "other", "GET", "/healthz"); code != 401 {
		t.Errorf("an unknown token: %d", code)
	}
}
