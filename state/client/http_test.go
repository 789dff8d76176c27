// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// admin reaches a test server over HTTPS with the admin's certificate.
func admin(t *testing.T, s *apiservertest.Server, asJSON bool) *client.HTTP {
	t.Helper()
	rest, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(rest.CertData, rest.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	h, err := client.NewHTTP(client.Config{Server: rest.Host, TLS: &tls.Config{RootCAs: pool(t, rest.CAData), Certificates: []tls.Certificate{cert}}, JSON: asJSON})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func configMap(name, v string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"v": v}}
}

// TestRequests runs the same steps over every way to the API.
func TestRequests(t *testing.T) {
	s := apiservertest.New(t)
	for name, do := range map[string]client.Doer{"in-process": s.Admin, "protobuf": admin(t, s, false), "json": admin(t, s, true)} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			c := client.For[corev1.ConfigMap](do, "test")
			made, err := c.Create(ctx, configMap(name, "1"))
			if err != nil || made.UID == "" || made.Data["v"] != "1" {
				t.Fatalf("create: %+v %v", made, err)
			}
			if _, err := c.Create(ctx, configMap(name, "1")); !errors.Is(err, errs.Exists) || !apierrors.IsAlreadyExists(err) {
				t.Errorf("create again: %v", err)
			}
			got, err := c.Get(ctx, "default", name)
			if err != nil || got.UID != made.UID {
				t.Fatalf("get: %+v %v", got, err)
			}
			if _, err := c.Get(ctx, "default", "nobody"); !errors.Is(err, errs.NotFound) || !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), `configmaps "nobody" not found`) {
				t.Errorf("get nothing: %v", err)
			}
			patched, err := c.Patch(ctx, "default", name, types.MergePatchType, []byte(`{"data":{"v":"2"}}`), "")
			if err != nil || patched.Data["v"] != "2" {
				t.Fatalf("patch: %+v %v", patched, err)
			}
			stale := got.DeepCopy()
			stale.Data["v"] = "3"
			if _, err := c.Update(ctx, stale); !errors.Is(err, errs.Conflict) || !apierrors.IsConflict(err) {
				t.Errorf("update of a stale version: %v", err)
			}
			fresh := patched.DeepCopy()
			fresh.Data["v"] = "3"
			if fresh, err = c.Update(ctx, fresh); err != nil || fresh.Data["v"] != "3" {
				t.Errorf("update: %+v %v", fresh, err)
			}
			if _, err := c.Create(ctx, configMap("Bad Name", "")); !errors.Is(err, errs.Invalid) || !apierrors.IsInvalid(err) {
				t.Errorf("create with a bad name: %v", err)
			}
			if err := c.Delete(ctx, "default", name, client.DeleteOptions{UID: "another"}); !errors.Is(err, errs.Conflict) {
				t.Errorf("delete of another uid: %v", err)
			}
			if err := c.Delete(ctx, "default", name, client.DeleteOptions{UID: made.UID}); err != nil {
				t.Errorf("delete: %v", err)
			}
			if _, err := c.Get(ctx, "default", name); !errors.Is(err, errs.NotFound) {
				t.Errorf("get after the deletion: %v", err)
			}
		})
	}
}

func TestNobodyAnswersIsUnavailable(t *testing.T) {
	h, err := client.NewHTTP(client.Config{Server: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.For[corev1.ConfigMap](h, "").Get(t.Context(), "default", "x"); !errors.Is(err, errs.Unavailable) {
		t.Errorf("error %v", err)
	}
	for _, bad := range []string{"", "host:6443", "ftp://x", "https://"} {
		if _, err := client.NewHTTP(client.Config{Server: bad}); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

// TestListWatchIsTheServersCache feeds a cache over HTTP and compares it with the server's own.
func TestListWatchIsTheServersCache(t *testing.T) {
	s := apiservertest.New(t)
	for _, asJSON := range []bool{false, true} {
		t.Run(fmt.Sprintf("json %v", asJSON), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			c := client.For[corev1.ConfigMap](s.Admin, "test")
			for i := range 20 {
				if _, err := c.Create(ctx, configMap(fmt.Sprintf("m%d", i), "0")); err != nil {
					t.Fatal(err)
				}
			}
			follow := []client.Selection{
				{Type: kinds.For[corev1.ConfigMap](), Namespace: "default"},
				{Type: kinds.For[corev1.Namespace](), Fields: "metadata.name=default"},
			}
			log := slog.New(slog.DiscardHandler)
			types := []*kinds.Type{kinds.For[corev1.ConfigMap](), kinds.For[corev1.Namespace]()}
			remote := cache.New(client.NewListWatch(admin(t, s, asJSON), follow, log), types, cache.Options{}, log)
			done := make(chan error)
			go func() { done <- remote.Run(ctx) }()
			defer func() { cancel(); <-done }()
			select {
			case <-remote.Ready():
			case <-time.After(10 * time.Second):
				t.Fatal("the remote cache is not ready")
			}
			if n := remote.Snapshot().Len(types[1]); n != 1 {
				t.Errorf("%d namespaces, one was selected", n)
			}
			for i := range 20 {
				name := fmt.Sprintf("m%d", i)
				if i%2 == 0 {
					if err := c.Delete(ctx, "default", name, client.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				} else if _, err := c.Patch(ctx, "default", name, "application/merge-patch+json", []byte(`{"data":{"v":"1"}}`), ""); err != nil {
					t.Fatal(err)
				}
			}
			last, err := c.Create(ctx, configMap("last", "x"))
			if err != nil {
				t.Fatal(err)
			}
			var rev int64
			fmt.Sscan(last.ResourceVersion, &rev)
			waiting, stop := context.WithTimeout(ctx, 10*time.Second)
			defer stop()
			snap, err := remote.Wait(waiting, rev, types[0])
			if err != nil {
				t.Fatal(err)
			}
			write := func(s *cache.Snapshot) (out []string) {
				for m := range cache.List[corev1.ConfigMap](s, "default") {
					out = append(out, m.Name+"="+m.Data["v"]+"@"+m.ResourceVersion+" "+m.Kind)
				}
				return out
			}
			if got, want := fmt.Sprint(write(snap)), fmt.Sprint(write(s.Cache().Snapshot())); got != want {
				t.Errorf("remote %s\nserver %s", got, want)
			}
			for m := range cache.List[corev1.ConfigMap](s.Cache().Snapshot(), "default") {
				if err := c.Delete(ctx, "default", m.Name, client.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestSingleObjects: only what is followed is in the cache, what is let go leaves it, and what appears later comes.
func TestSingleObjects(t *testing.T) {
	s := apiservertest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := client.For[corev1.ConfigMap](s.Admin, "test")
	for _, name := range []string{"a", "b"} {
		if _, err := c.Create(ctx, configMap(name, "1")); err != nil {
			t.Fatal(err)
		}
	}
	maps := kinds.For[corev1.ConfigMap]()
	log := slog.New(slog.DiscardHandler)
	source := client.NewListWatch(admin(t, s, false), []client.Selection{{Type: maps, Single: true}}, log)
	remote := cache.New(source, []*kinds.Type{maps}, cache.Options{}, log)
	done := make(chan error)
	go func() { done <- remote.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-remote.Ready()
	object := func(name string) client.Object { return client.Object{Type: maps, Namespace: "default", Name: name} }
	names := func() string {
		var out []string
		for m := range cache.List[corev1.ConfigMap](remote.Snapshot(), "") {
			out = append(out, m.Name+"="+m.Data["v"])
		}
		return strings.Join(out, " ")
	}
	if got := names(); got != "" {
		t.Errorf("followed without being asked: %s", got)
	}
	if err := source.Follow(ctx, object("a"), object("later")); err != nil {
		t.Fatal(err)
	}
	if got := names(); got != "a=1" {
		t.Errorf("%q, want a=1", got)
	}
	from := remote.Snapshot().RevisionOf(maps)
	if _, err := c.Create(ctx, configMap("later", "2")); err != nil {
		t.Fatal(err)
	}
	within, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	for change, err := range remote.Watch(within, maps, from) {
		if err != nil {
			t.Fatal(err)
		}
		if change.New != nil && change.New.Object.GetName() == "later" {
			break
		}
	}
	if got := names(); got != "a=1 later=2" {
		t.Errorf("%q, want both", got)
	}
	source.Keep(func(o client.Object) bool { return o.Name == "later" })
	if got := names(); got != "later=2" {
		t.Errorf("%q, want only what is kept", got)
	}
	if err := source.Follow(ctx, object("a")); err != nil || names() != "a=1 later=2" {
		t.Errorf("followed again: %q %v", names(), err)
	}
}
