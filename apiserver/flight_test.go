// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/state/store/mem"
)

// TestTooManyAtOnce: who comes when all places are taken is told when to come again, at once; health, watches and the
// administrator are answered all the same. The server does not run, so those who get in are refused by RBAC.
func TestTooManyAtOnce(t *testing.T) {
	st := mem.New()
	defer st.Close()
	s, err := New(Config{Store: st, DataDir: t.TempDir(), AdvertiseIP: netip.MustParseAddr("192.0.2.1")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ann, admin := auth.User{Name: "ann", Groups: []string{auth.Authenticated}}, auth.Admin()
	ask := func(u auth.User, method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.filtered(func(*http.Request) (auth.User, error) { return u, nil }).ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	for range maxReading {
		s.flight.reading <- struct{}{}
	}
	w := ask(ann, "GET", "/api/v1/namespaces/default/pods")
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"reason":"TooManyRequests"`) {
		t.Errorf("a full server: %d, Retry-After %q, %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	for _, x := range []struct {
		user         auth.User
		method, path string
	}{
		{ann, "POST", "/api/v1/namespaces/default/pods"}, // writes have places of their own
		{ann, "GET", "/api/v1/namespaces/default/pods?watch=true"},
		{ann, "GET", "/livez"},
		{admin, "GET", "/version"},
	} {
		if w := ask(x.user, x.method, x.path); w.Code == http.StatusTooManyRequests {
			t.Errorf("%s %s by %s: %d", x.method, x.path, x.user.Name, w.Code)
		}
	}
	if n := len(s.flight.writing); n != 0 {
		t.Errorf("%d places are still taken by requests that were answered", n)
	}
	<-s.flight.reading
	for range 2 { // the one free place is given back each time
		if w := ask(ann, "GET", "/api/v1/namespaces/default/pods"); w.Code != http.StatusForbidden {
			t.Errorf("one place is free: %d %s", w.Code, w.Body)
		}
	}
}
