// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/knarr/knarr/state/reconcile"
)

func TestFind(t *testing.T) {
	s := New(Config{})
	if s.List().Find("/apis/w/v1/x") != nil {
		t.Error("found in nothing")
	}
	w := &Server{GroupVersion: schema.GroupVersion{Group: "w", Version: "v1"}}
	s.publish("v1.w", w)
	for path, want := range map[string]bool{
		"/apis/w/v1": true, "/apis/w/v1/": true, "/apis/w/v1/x/y": true,
		"/apis/w": false, "/apis/w/": false, "/apis/w/v1beta1/x": false, "/apis/": false, "/apis": false, "/api/w/v1": false,
		"/apis/w/v1x": false, "//apis/w/v1": false, "/apis//v1/x": false, "": false,
	} {
		if got := s.List().Find(path) == w; got != want {
			t.Errorf("Find(%q) = %v", path, got)
		}
	}
	s.publish("v1.w", nil)
	if s.List().Find("/apis/w/v1") != nil {
		t.Error("still there")
	}
}

func TestSane(t *testing.T) {
	var names []string
	for _, r := range sane([]metav1.APIResource{{Name: "b/c", Kind: "K"}, {Name: "", Kind: "K"}, {Name: "x"}, {Name: "a/b/c", Kind: "K"}, {Name: "b", Kind: "K"}}) {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "b b/c" {
		t.Error(got)
	}
}

func TestOwnDocument(t *testing.T) {
	s := &Server{GroupVersion: schema.GroupVersion{Group: "w", Version: "v1"}}
	b, err := s.own([]byte(`{"paths":{"/apis/w/v1/f":{"get":{"responses":{"200":{"description":"","schema":{"$ref":"#/definitions/F"}}}}},"/apis/apps/v1/thieves":{},"/apis/w/v1beta1/f":{}},
		"definitions":{"F":{"type":"object"},"Other":{"type":"object"}}}`))
	if got := string(b); err != nil || !strings.Contains(got, `"/apis/w/v1/f"`) || !strings.Contains(got, `"F":`) ||
		strings.Contains(got, "thieves") || strings.Contains(got, "beta") {
		t.Errorf("%s %v", b, err)
	}
	if b, err := s.own([]byte(`{}`)); err != nil {
		t.Errorf("%s %v", b, err)
	}
	if _, err := s.own([]byte(`[`)); err == nil {
		t.Error("no error")
	}
}

func TestLocals(t *testing.T) {
	now := time.Unix(1e9, 0)
	service := func(l Local) Local {
		l.APIService.Spec.Service = &apiregistrationv1.ServiceReference{}
		return l
	}
	apps, crd := schema.GroupVersion{Group: "apps", Version: "v1"}, schema.GroupVersion{Group: "example.com", Version: "v1"}
	registered := func(gv schema.GroupVersion, program bool) *apiregistrationv1.APIService {
		return Local{GV: gv, Program: program, Now: now}.register()
	}
	done := with(registered(apps, true), Decide(Local{GV: apps, Program: true, APIService: registered(apps, true), Now: now}).Status.(*apiregistrationv1.APIService).Status.Conditions[0], now)
	for name, c := range map[string]struct {
		in   Local
		want string
	}{
		"of the program, not there":        {Local{GV: apps, Program: true}, "create v1.apps 17800 15 onstart"},
		"defined, not there":               {Local{GV: crd, Defined: true}, "create v1.example.com 1000 100 true"},
		"nobody serves it":                 {Local{GV: crd}, ""},
		"without a condition":              {Local{GV: apps, Program: true, APIService: registered(apps, true)}, "status"},
		"all is well":                      {Local{GV: apps, Program: true, APIService: done}, ""},
		"not defined any more":             {Local{GV: crd, APIService: registered(crd, false)}, "delete"},
		"another server's":                 {service(Local{GV: crd, APIService: registered(crd, false)}), ""},
		"another server's, in the program": {service(Local{GV: apps, Program: true, APIService: registered(apps, true)}), ""},
	} {
		p := Decide(c.in)
		got := ""
		if p.Status != nil {
			got = "status"
		}
		for _, a := range p.Actions {
			switch a := a.(type) {
			case reconcile.Create:
				o := a.Object.(*apiregistrationv1.APIService)
				got = fmt.Sprint("create ", o.Name, " ", o.Spec.GroupPriorityMinimum, " ", o.Spec.VersionPriority, " ", o.Labels[managed])
			case reconcile.Delete:
				got = "delete"
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
