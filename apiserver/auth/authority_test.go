// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

func open(t *testing.T, dir string, now *time.Time, names ...string) *Authority {
	t.Helper()
	a, err := Open(dir, append([]string{"localhost"}, names...), "https://issuer", func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCertificatesSurviveAndAreRenewed(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a := open(t, dir, &now)
	first, err := a.Serving(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, dir, &now)
	again, err := b.Serving(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.CA(), b.CA()) || !bytes.Equal(first.Certificate[0], again.Certificate[0]) {
		t.Error("a restart made new certificates")
	}
	c := open(t, dir, &now, "10.0.0.1")
	named, err := c.Serving(nil)
	if err != nil || named.Leaf.VerifyHostname("10.0.0.1") != nil {
		t.Errorf("a new name is not in the certificate: %v", err)
	}
	now = now.Add(certLife / 2)
	if same, err := c.Serving(nil); err != nil || same != named {
		t.Errorf("renewed at half its life: %v", err)
	}
	now = now.Add(certLife / 4)
	renewed, err := c.Serving(nil)
	if err != nil || renewed == named || !renewed.Leaf.NotAfter.After(named.Leaf.NotAfter) {
		t.Errorf("not renewed with a quarter of its life left: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 7 {
		t.Errorf("files: %v, %v", files, err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, st.Mode(), err)
		}
	}
}

func TestABrokenPairIsReplaced(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a := open(t, dir, &now)
	if _, err := a.Client(Admin()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client-system_3aadmin.key"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := a.Client(Admin())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil || cert.Leaf.Subject.CommonName != "system:admin" || cert.Leaf.Subject.Organization[0] != Masters {
		t.Errorf("%v, %v", cert, err)
	}
}

func TestTokens(t *testing.T) {
	now := time.Now()
	a, other := open(t, t.TempDir(), &now), open(t, t.TempDir(), &now)
	sign := func(change func(*Token)) string {
		tok := Token{Namespace: "ns", ServiceAccount: Ref{"sa", "uid"}, Pod: &Ref{"p", "pu"}, Audiences: []string{"us"}, Expires: now.Add(time.Hour)}
		change(&tok)
		s, err := a.Sign(tok)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := sign(func(*Token) {})
	got, err := a.Verify(good, []string{"them", "us"})
	if err != nil || got.Pod.UID != "pu" || got.User().Name != "system:serviceaccount:ns:sa" || got.Audiences[0] != "us" {
		t.Errorf("%+v, %v", got, err)
	}
	foreign, err := other.Sign(Token{Namespace: "ns", ServiceAccount: Ref{"sa", "uid"}, Audiences: []string{"us"}, Expires: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another key":   foreign,
		"past":          sign(func(t *Token) { t.Expires = now.Add(-time.Minute) }),
		"not yet":       sign(func(t *Token) { t.Issued = now.Add(time.Hour); t.Expires = now.Add(2 * time.Hour) }),
		"for others":    sign(func(t *Token) { t.Audiences = []string{"them"} }),
		"no audience":   sign(func(t *Token) { t.Audiences = nil }),
		"no account":    sign(func(t *Token) { t.ServiceAccount.UID = "" }),
		"not signed":    "eyJhbGciOiJub25lIn0.e30.",
		"not a token":   "x",
		"empty":         "",
		"cut signature": good[:len(good)-4],
	} {
		if got, err := a.Verify(token, []string{"us"}); !errors.Is(err, errs.Unauthentic) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
