// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dcontainer "github.com/moby/moby/api/types/container"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

func TestEveryKindOfErrorHasAStatus(t *testing.T) {
	for _, kind := range errs.All {
		if s := statusOf[kind]; s < 400 || s >= 600 {
			t.Errorf("%v: status %d", kind, s)
		}
	}
	if len(statusOf) != len(errs.All) {
		t.Errorf("statusOf has %d kinds, errs.All %d", len(statusOf), len(errs.All))
	}
}

// TestRoutesAreReached asks for each line of the table with names in place of its placeholders; a line that another one
// hides, or that cannot be reached, is found.
func TestRoutesAreReached(t *testing.T) {
	s := New(Config{}, slog.New(slog.DiscardHandler))
	for i, e := range s.table() {
		path := placeholder.ReplaceAllStringFunc(e.pattern, func(p string) string {
			if strings.HasSuffix(p, "...}") {
				return "registry.example/a/b:1"
			}
			return "x1"
		})
		path = strings.Replace(strings.TrimSuffix(path, "..."), "/plugins/", "/plugins/x1", 1)
		method := e.method
		if method == "*" {
			method = "DELETE"
		}
		r := compile([]entry{e})
		if _, _, err := match(r, method, path); err != nil {
			t.Errorf("%s %s does not match its own route: %v", method, path, err)
		}
		if got := firstMatch(s.routes, method, path); got != i {
			t.Errorf("%s %s is served by line %d, want %d", method, path, got, i)
		}
	}
	for _, path := range []string{"/", "/nosuch", "/containers", "/containers/a/b/json", "/images//json"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		var body struct{ Message string }
		if json.Unmarshal(w.Body.Bytes(), &body); w.Code != http.StatusNotFound || !strings.HasPrefix(body.Message, "page not found") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func firstMatch(routes []route, method, path string) int {
	for i, r := range routes {
		if (r.method == method || r.method == "*") && r.re.MatchString(path) {
			return i
		}
	}
	return -1
}

func TestVersions(t *testing.T) {
	for path, want := range map[string]string{
		"/v1.43/info": "/info", "/info": "/info", "/volumes": "/volumes", "/v1.24/volumes/v1.43/x": "/volumes/v1.43/x", "/version": "/version",
	} {
		if got, _, err := unversioned(path); err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for path, want := range map[string]string{"/v1.23/info": "too old", "/v1.99/info": "too new", "/v2.0/info": "too new", "/v0/info": "too old"} {
		if _, _, err := unversioned(path); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	s := New(Config{}, slog.New(slog.DiscardHandler))
	for body, want := range map[string]int{
		`{"x":"` + strings.Repeat("a", maxJSON) + `"}`: http.StatusRequestEntityTooLarge,
		strings.Repeat("[", 100_000):                   http.StatusBadRequest,
		`{"HostConfig":`:                               http.StatusBadRequest,
		`{}`:                                           http.StatusBadRequest,
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/v1.50/containers/create", strings.NewReader(body)))
		if w.Code != want {
			t.Errorf("%.20q…: %d %s", body, w.Code, w.Body)
		}
	}
}

func request(query url.Values) *http.Request {
	return &http.Request{URL: &url.URL{RawQuery: query.Encode()}}
}

func TestMoment(t *testing.T) {
	for text, want := range map[string]time.Time{
		"": {}, "0": {}, "12": time.Unix(12, 0), "12.5": time.Unix(12, 5e8), "12.000000001": time.Unix(12, 1), "12.0000000019": time.Unix(12, 1),
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	} {
		if got, err := moment(request(url.Values{"t": {text}}), "t"); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "1.x", "1.-5", "yesterday"} {
		if got, err := moment(request(url.Values{"t": {text}}), "t"); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestFilters(t *testing.T) {
	for text, want := range map[string]string{
		`{"label":{"a=b":true}}`: "a=b", `{"label":["a=b"]}`: "a=b", ``: "", `{}`: "",
	} {
		f, err := readFilters(request(url.Values{"filters": {text}}), "label")
		if err != nil || strings.Join(f["label"], " ") != want {
			t.Errorf("%s: %v, %v", text, f, err)
		}
	}
	for _, text := range []string{`{"nosuch":["x"]}`, `[`, `{"label":1}`, `"x"`} {
		if f, err := readFilters(request(url.Values{"filters": {text}}), "label"); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, %v; want an invalid request", text, f, err)
		}
	}
	f := filters{"label": {"a", "b=c"}}
	for _, c := range []struct {
		have map[string]string
		want bool
	}{{map[string]string{"a": "", "b": "c"}, true}, {map[string]string{"a": "x"}, false}, {map[string]string{"a": "", "b": "d"}, false}} {
		if f.labels(c.have) != c.want {
			t.Errorf("%v on %v", f, c.have)
		}
	}
}

func TestParseBind(t *testing.T) {
	for text, want := range map[string]container.Mount{
		"/data":           {Type: "volume", Target: "/data"},
		"name:/data":      {Type: "volume", Source: "name", Target: "/data"},
		"/host:/data:ro":  {Type: "bind", Source: "/host", Target: "/data", ReadOnly: true, CreateSource: true},
		"/h:/d:rshared,Z": {Type: "bind", Source: "/h", Target: "/d", Propagation: "rshared", CreateSource: true},
		"n:/d:nocopy":     {Type: "volume", Source: "n", Target: "/d", NoCopy: true},
	} {
		if got, err := parseBind(text); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "name", "a:b", "/a:/", "a/b:/c", "/a:/b:bogus", "/a:/b:ro:x", ":"} {
		if got, err := parseBind(text); err == nil {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
}

func TestSpecOfRefusesByName(t *testing.T) {
	for body, want := range map[string]string{
		`{"Image":"i","HostConfig":{"Runtime":"runc"}}`:                                               "runc",
		`{"Image":"i","HostConfig":{"LogConfig":{"Type":"syslog"}}}`:                                  "syslog",
		`{"Image":"i","HostConfig":{"LogConfig":{"Config":{"max-size":"x"}}}}`:                        "max-size=x",
		`{"Image":"i","HostConfig":{"SecurityOpt":["bogus=1"]}}`:                                      "bogus=1",
		`{"Image":"i","HostConfig":{"Binds":["/a:/b:bogus"]}}`:                                        "/a:/b:bogus",
		`{"Image":"i","HostConfig":{"Mounts":[{"Type":"npipe","Target":"/x"}]}}`:                      "npipe",
		`{"Image":"i","HostConfig":{"DeviceRequests":[{"Driver":"nvidia"}]}}`:                         "nvidia",
		`{"Image":"i","HostConfig":{"RestartPolicy":{"Name":"bogus"}}}`:                               "bogus",
		`{"Image":"i","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`:            "AutoRemove",
		`{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"n":{"MacAddress":"02:42:ac:11:0:9"}}}}`: "MAC",
	} {
		var req dcontainer.CreateRequest
		if err := json.Unmarshal([]byte(body), &req); err != nil {
			if want != "MAC" {
				t.Errorf("%s: %v", body, err)
			}
			continue
		}
		if _, err := specOf("", req); err == nil || errs.Kind(err) == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q named", body, err, want)
		}
	}
}

func TestHangup(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (here net.Conn, there *net.UnixConn, h *hangup, gone chan bool) {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if here, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		if h, err = watchHangup(here); err != nil {
			t.Fatal(err)
		}
		gone = make(chan bool, 1)
		go func() { gone <- h.wait() }()
		return here, c.(*net.UnixConn), h, gone
	}
	quiet := func(gone chan bool) {
		t.Helper()
		select {
		case <-gone:
			t.Fatal("told too early")
		case <-time.After(30 * time.Millisecond):
		}
	}

	here, there, h, gone := pair()
	there.Write([]byte("unread"))
	quiet(gone)
	there.CloseWrite() // half closed: it still listens
	quiet(gone)
	there.Close()
	if !<-gone {
		t.Error("the end of the other side was not told")
	}
	h.close()
	here.Close()

	here, there, h, gone = pair()
	h.close()
	if <-gone {
		t.Error("closing the watch looked like the other side's end")
	}
	if _, err := there.Write([]byte("x")); err != nil {
		t.Error("closing the watch closed the connection:", err)
	}
	here.Close()
	there.Close()
}

func FuzzFilters(f *testing.F) {
	f.Add(`{"label":{"a=b":true}}`)
	f.Add(`{"name":["x"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readFilters(request(url.Values{"filters": {text}}), "label", "name")
		if err != nil && errs.Kind(err) == nil {
			t.Errorf("%q: an error of no kind: %v", text, err)
		}
		got.labels(nil)
		got.any("name", func(string) bool { return false })
		got.flag("name", true)
	})
}

func FuzzParseBind(f *testing.F) {
	f.Add("/a:/b:ro")
	f.Add("v:/b:nocopy,z")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseBind(text)
		if err == nil && (!strings.HasPrefix(m.Target, "/") || m.Type == "bind" && !strings.HasPrefix(m.Source, "/") || m.Type == "volume" && strings.Contains(m.Source, "/")) {
			t.Errorf("%q became %+v", text, m)
		}
	})
}

func FuzzCreateBody(f *testing.F) {
	f.Add([]byte(`{"Image":"i","Cmd":["a"],"HostConfig":{"Binds":["/a:/b"],"PortBindings":{"80/tcp":[{"HostPort":"80"}]},"Memory":7}}`))
	f.Add([]byte(`{"Image":"i","ExposedPorts":{"1/udp":{}},"NetworkingConfig":{"EndpointsConfig":{"n":null}},"Healthcheck":{"Test":["NONE"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var req dcontainer.CreateRequest
		if json.Unmarshal(body, &req) != nil {
			return
		}
		if _, err := specOf("n", req); err != nil && errs.Kind(err) == nil {
			t.Errorf("an error of no kind: %v", err)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("since=1.5&t=3&h=4&w=5&tail=all")
	f.Fuzz(func(t *testing.T, query string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}}
		for _, name := range []string{"since", "t", "h", "w"} {
			truth(r, name)
			moment(r, name)
			seconds(r, name)
		}
		sizeOf(r)
	})
}

func FuzzRegistryAuth(f *testing.F) {
	f.Add("eyJ1c2VybmFtZSI6ImEiLCJwYXNzd29yZCI6ImIifQ==")
	f.Add("e30")
	f.Add("bnVsbA")
	f.Add("eyJhdXRoIjoiWVRwaSJ9")
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("X-Registry-Auth", header)
		r.Header.Set("X-Registry-Config", header)
		if _, err := registryAuth(r); err != nil && !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", header, err)
		}
		if get, err := registryAuths(r); err == nil {
			get("docker.io")
		} else if !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", header, err)
		}
	})
}
