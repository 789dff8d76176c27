// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

func TestEntrypointAndCmdAsDockerCombinesThem(t *testing.T) {
	both := ocispec.ImageConfig{Entrypoint: []string{"/e"}, Cmd: []string{"c1", "c2"}}
	for name, tc := range map[string]struct {
		img  ocispec.ImageConfig
		spec Spec
		want string // "": refused
	}{
		"image's own":                      {both, Spec{}, "/e c1 c2"},
		"cmd replaces cmd":                 {both, Spec{Cmd: []string{"x"}}, "/e x"},
		"empty cmd is none given":          {both, Spec{Cmd: []string{}}, "/e c1 c2"},
		"entrypoint drops the image's cmd": {both, Spec{Entrypoint: []string{"/o"}}, "/o"},
		"entrypoint and cmd":               {both, Spec{Entrypoint: []string{"/o"}, Cmd: []string{"x"}}, "/o x"},
		"entrypoint reset":                 {both, Spec{Entrypoint: []string{}, Cmd: []string{"x"}}, "x"},
		"entrypoint reset by empty string": {both, Spec{Entrypoint: []string{""}, Cmd: []string{"x"}}, "x"},
		"only cmd":                         {ocispec.ImageConfig{Cmd: []string{"sh"}}, Spec{}, "sh"},
		"nothing":                          {ocispec.ImageConfig{}, Spec{}, ""},
		"reset and nothing":                {both, Spec{Entrypoint: []string{}}, ""},
	} {
		_, args, err := merge(image.ContainerConfig{ImageConfig: tc.img}, tc.spec)
		if got := strings.Join(args, " "); got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

func TestMergeLeavesTheImageAlone(t *testing.T) {
	img := image.ContainerConfig{ImageConfig: ocispec.ImageConfig{Cmd: []string{"c"}, Env: []string{"A=1", "B=2"}, Labels: map[string]string{"l": "i"}, WorkingDir: "w"}}
	c, _, err := merge(img, Spec{Env: []string{"B=3", "C=4", "A"}, Labels: map[string]string{"l": "s"}, Expose: []string{"80"}})
	if err != nil || !slices.Equal(c.Env, []string{"B=3", "C=4"}) || c.Labels["l"] != "s" || c.WorkingDir != "/w" {
		t.Errorf("%+v %v", c, err)
	}
	if _, ok := c.ExposedPorts["80/tcp"]; !ok {
		t.Errorf("exposed %v", c.ExposedPorts)
	}
	if img.Labels["l"] != "i" || !slices.Equal(img.Env, []string{"A=1", "B=2"}) || img.ExposedPorts != nil {
		t.Errorf("the image changed: %+v", img)
	}
}

func TestRestartPolicies(t *testing.T) {
	for name, tc := range map[string]struct {
		run   ended
		after time.Duration // 0: no restart
	}{
		"no":                      {ended{policy: RestartPolicy{Name: "no"}, code: 1}, 0},
		"always":                  {ended{policy: RestartPolicy{Name: "always"}}, firstBackoff},
		"always, but stopped":     {ended{policy: RestartPolicy{Name: "always"}, stopped: true}, 0},
		"backs off":               {ended{policy: RestartPolicy{Name: "always"}, backoff: 400 * time.Millisecond}, 800 * time.Millisecond},
		"to a minute":             {ended{policy: RestartPolicy{Name: "always"}, backoff: 50 * time.Second}, time.Minute},
		"anew after ten seconds":  {ended{policy: RestartPolicy{Name: "always"}, backoff: time.Minute, ran: 10 * time.Second}, firstBackoff},
		"on-failure succeeded":    {ended{policy: RestartPolicy{Name: "on-failure"}}, 0},
		"on-failure failed":       {ended{policy: RestartPolicy{Name: "on-failure"}, code: 1, count: 99}, firstBackoff},
		"on-failure has a bound":  {ended{policy: RestartPolicy{Name: "on-failure", MaxRetries: 2}, code: 1, count: 2}, 0},
		"on-failure below it":     {ended{policy: RestartPolicy{Name: "on-failure", MaxRetries: 2}, code: 1, count: 1}, firstBackoff},
		"unless-stopped, stopped": {ended{policy: RestartPolicy{Name: "unless-stopped"}, stopped: true}, 0},
	} {
		again, after := decideRestart(tc.run)
		if again != (tc.after > 0) || after != tc.after {
			t.Errorf("%s: %v %v, want %v", name, again, after, tc.after)
		}
	}
	for name, tc := range map[string]struct {
		policy               string
		state                State
		stopped, interrupted bool
		code                 int
		want                 bool
	}{
		"always starts even what was stopped": {"always", Exited, true, false, 0, true},
		"always leaves what never ran":        {"always", Created, false, false, 0, false},
		"unless-stopped heeds the stop":       {"unless-stopped", Exited, true, false, 0, false},
		"unless-stopped":                      {"unless-stopped", Exited, false, true, 255, true},
		"on-failure, interrupted":             {"on-failure", Exited, false, true, 255, true},
		"on-failure, long exited":             {"on-failure", Exited, false, false, 1, false},
		"no":                                  {"", Exited, false, true, 255, false},
	} {
		if got := decideBoot(RestartPolicy{Name: tc.policy}, tc.state, tc.stopped, tc.interrupted, tc.code); got != tc.want {
			t.Errorf("at boot, %s: %v", name, got)
		}
	}
}

func accounts(t *testing.T, passwd, group string) *inroot.Dir {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := inroot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestUsersThatWrapAroundAreRefused(t *testing.T) {
	root := accounts(t, "root:x:0:0::/root:/sh\nbig:x:4294967296:0::/:/sh\nneg:x:-1:0::/:/sh\n4294967296:x:0:0::/:/sh\nok:x:7:8::relative:/sh\n", "biggroup:x:4294967296:ok\n")
	for _, bad := range []string{"4294967296", "-1", "2147483648", "+4294967297", "big", "neg", "0:4294967296", "0:-1", "a:b:c", "nobody", "1:nogroup", "root:biggroup"} {
		if u, _, err := lookupUser(root, bad, nil, false); err == nil || !errors.Is(err, errs.Invalid) {
			t.Errorf("%q became %d:%d, %v", bad, u.UID, u.GID, err)
		}
	}
	if u, home, err := lookupUser(root, "", nil, false); err != nil || u.UID != 0 || home != "/root" {
		t.Errorf("root: %+v %q %v", u, home, err)
	}
	if u, home, err := lookupUser(accounts(t, "ok:x:7:8::relative:/sh\n", ""), "ok", []string{"9"}, false); err != nil || u.UID != 7 || u.GID != 8 || home != "/" || !slices.Equal(u.AdditionalGids, []uint32{8, 9}) {
		t.Errorf("ok: %+v %q %v", u, home, err)
	}
	if _, _, err := lookupUser(accounts(t, strings.Repeat("x:x:1:1::/:/\n", 400_000), ""), "1", nil, false); !errors.Is(err, errs.TooLarge) {
		t.Errorf("a huge passwd: %v", err)
	}
}

func TestAccountsAreReadInsideTheRootOnly(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(outside, []byte("host:x:1:1::/:/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{outside, "../../../../../../../../.." + outside, "/dev/zero", "passwd"} {
		os.Remove(filepath.Join(dir, "etc/passwd"))
		if err := os.Symlink(link, filepath.Join(dir, "etc/passwd")); err != nil {
			t.Fatal(err)
		}
		root, err := inroot.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := lookupUser(root, "host", nil, false); err == nil {
			t.Errorf("a link to %s was followed out of the root", link)
		}
		root.Close()
	}
}

func TestCapabilities(t *testing.T) {
	bounding := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_ADMIN"}
	for name, tc := range map[string]struct {
		s    Security
		want string // "-": refused
	}{
		"default":                 {Security{}, "CAP_CHOWN CAP_KILL CAP_NET_RAW"},
		"add":                     {Security{CapAdd: []string{"sys_admin"}}, "CAP_CHOWN CAP_KILL CAP_NET_RAW CAP_SYS_ADMIN"},
		"what we lack is no gift": {Security{CapAdd: []string{"SYS_TIME"}}, "CAP_CHOWN CAP_KILL CAP_NET_RAW"},
		"drop":                    {Security{CapDrop: []string{"CAP_NET_RAW"}}, "CAP_CHOWN CAP_KILL"},
		"drop all, add one":       {Security{CapDrop: []string{"ALL"}, CapAdd: []string{"KILL"}}, "CAP_KILL"},
		"add all, drop one":       {Security{CapAdd: []string{"all"}, CapDrop: []string{"KILL"}}, "CAP_CHOWN CAP_NET_RAW CAP_SYS_ADMIN"},
		"privileged":              {Security{Privileged: true}, "CAP_CHOWN CAP_KILL CAP_NET_RAW CAP_SYS_ADMIN"},
		"unknown":                 {Security{CapAdd: []string{"FLY"}}, "-"},
		"unknown drop":            {Security{CapDrop: []string{"FLY"}}, "-"},
	} {
		got, err := capabilities(tc.s, bounding)
		if tc.want == "-" != (err != nil) || err == nil && strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	if c := processCapabilities(bounding, specs.User{UID: 5}); c.Effective != nil || c.Permitted != nil || c.Inheritable != nil || len(c.Bounding) != 4 {
		t.Errorf("a user has %+v", c)
	}
}

func TestSeccompFailsClosed(t *testing.T) {
	p := newSeccompProfiles()
	for _, bad := range []string{"{", "null", "{}", `{"defaultAction":""}`, `"unconfined"`, " "} {
		if got, err := p.Profile(bad, nil); err == nil {
			t.Errorf("%q gave %+v", bad, got)
		}
	}
	def, err := p.Profile("", defaultCapabilities[:])
	if err != nil || def.DefaultAction != specs.ActErrno || len(def.Syscalls) == 0 {
		t.Fatalf("%+v %v", def, err)
	}
	if again, _ := p.Profile("", defaultCapabilities[:]); again != def {
		t.Error("the default profile was computed twice")
	}
}

func TestMountsCoverVolumesOfTheImage(t *testing.T) {
	n := 0
	newName := func() string { n++; return strings.Repeat("a", n) }
	plan := planMounts(Spec{
		Mounts: []Mount{{Type: "bind", Source: "/h/../x", Target: "/data/deep/er"}, {Type: "volume", Source: "named", Target: "/data/"}},
		Tmpfs:  map[string]string{"/run": "size=1m,mode=700"},
	}, map[string]struct{}{"/data": {}, "/../../etc/x": {}, "relative": {}, "/run": {}, "/": {}}, newName)
	var got []string
	for _, m := range plan {
		got = append(got, m.Type+" "+m.Name+m.Source+" "+m.Target)
	}
	want := []string{"volume named /data", "tmpfs  /run", "volume aa /relative", "volume a /etc/x", "bind /x /data/deep/er"}
	slices.Sort(got[:3])
	slices.Sort(want[:3])
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := validate(Spec{Name: "-x", Env: []string{"=1"}, Restart: RestartPolicy{Name: "sometimes"},
		Resources: Resources{Devices: []Device{{HostPath: "/dev/null", Permissions: "x"}}, DeviceRules: []string{"c"}},
		Mounts:    []Mount{{Type: "bind", Source: "rel", Target: "rel"}, {Type: "tmpfs", Target: "/a"}, {Type: "tmpfs", Target: "/a/"}},
		Security:  Security{Sysctls: map[string]string{"kernel.core_pattern": "x"}}, PidMode: "nonsense"})
	for _, want := range []string{"Invalid container name (-x)", "no image", `"=1"`, "sometimes", "bad mode", "cgroup rule", "must be absolute", "Duplicate mount point: /a", "kernel.core_pattern", "PidMode"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %q in %v", want, err)
		}
	}
	if err := validate(Spec{Image: "x", Name: "ok-1.2_3"}); err != nil {
		t.Error(err)
	}
}

func TestSignals(t *testing.T) {
	for in, want := range map[string]int{"KILL": 9, "SIGTERM": 15, "hup": 1, "9": 9, "SIGRTMIN": 34, "RTMIN+3": 37, "SIGRTMAX-1": 63, "64": 64} {
		if got, err := parseSignal(in); err != nil || int(got) != want {
			t.Errorf("%s: %d %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "0", "65", "-9", "FOO", "RTMIN+99", "RTMIN3", "SIG"} {
		if got, err := parseSignal(bad); err == nil {
			t.Errorf("%q: %d", bad, got)
		}
	}
}

func TestNetworkFiles(t *testing.T) {
	ip, gw := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.1")
	hosts := string(hostsFile([]netip.Addr{ip}, "web", "example.org", []string{"db:10.1.1.1", "up=host-gateway"}, gw))
	for _, want := range []string{"10.0.0.5\tweb.example.org web\n", "10.1.1.1\tdb\n", "10.0.0.1\tup\n"} {
		if !strings.Contains(hosts, want) {
			t.Errorf("no %q in %q", want, hosts)
		}
	}
	r := parseResolvConf("# c\nnameserver 127.0.0.53\nnameserver 10.0.0.9\nsearch a b\noptions ndots:5\nnonsense\n")
	if got := string(r.withoutLoopback().file()); got != "nameserver 10.0.0.9\nsearch a b\noptions ndots:5\n" {
		t.Errorf("%q", got)
	}
	if got := string(r.over([]string{"1.2.3.4"}, []string{"."}, nil).file()); got != "nameserver 1.2.3.4\noptions ndots:5\n" {
		t.Errorf("%q", got)
	}
}

func TestLogLines(t *testing.T) {
	l, ok := parseLogLine([]byte("2026-01-02T03:04:05.000000006Z stderr P half a"))
	if !ok || l.Stream != "stderr" || !l.Partial || string(l.Data) != "half a" || l.Time.Nanosecond() != 6 {
		t.Errorf("%+v %v", l, ok)
	}
	if l, ok = parseLogLine([]byte("2026-01-02T03:04:05Z stdout F ")); !ok || string(l.Data) != "\n" {
		t.Errorf("an empty line: %+v %v", l, ok)
	}
	for _, bad := range []string{"", "x", "2026-01-02T03:04:05Z stdout", "2026-01-02T03:04:05Z other F x", "yesterday stdout F x"} {
		if l, ok := parseLogLine([]byte(bad)); ok {
			t.Errorf("%q: %+v", bad, l)
		}
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05Z stdout F x"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if l, ok := parseLogLine(line); ok && !l.Partial && !bytes.HasSuffix(l.Data, []byte("\n")) {
			t.Errorf("%q", line)
		}
	})
}

func TestEventsTellASlowReader(t *testing.T) {
	r := newEventRing()
	at := r.start(time.Time{})
	for range ringSize + 1 {
		r.publish(Event{Time: time.Now()})
	}
	if _, _, err := r.from(at); !errors.Is(err, errs.Gone) {
		t.Errorf("missed events were not told: %v", err)
	}
	if got, _, err := r.from(r.start(time.Unix(1, 0))); err != nil || len(got) < ringSize-1 {
		t.Errorf("%d events of the past, %v", len(got), err)
	}
}

func TestHealthIsJudged(t *testing.T) {
	h := Health{Status: "starting"}
	bad, good := HealthResult{ExitCode: 1}, HealthResult{}
	for i, step := range []struct {
		r     HealthResult
		grace bool
		want  string
	}{{bad, true, "starting"}, {bad, false, "starting"}, {bad, false, "unhealthy"}, {good, false, "healthy"}, {bad, true, "healthy"}, {bad, false, "unhealthy"}} {
		if h = judge(h, step.r, 2, step.grace); h.Status != step.want {
			t.Errorf("step %d: %s, want %s", i, h.Status, step.want)
		}
	}
	if len(h.Log) > healthLogLength {
		t.Errorf("%d results are kept", len(h.Log))
	}
}

func TestProcessStatusWithOddNames(t *testing.T) {
	text := "42 (a) b (c) S 1 42 42 34816 42 4194304 100 0 0 0 150 50 0 0 20 0 3 0 1000 8192000 250 18446744073709551615"
	p, err := parseStat(text, machine{now: time.Unix(1000, 0), boot: time.Unix(0, 0), memory: 1 << 20})
	if err != nil || p.pid != 42 || p.comm != "a) b (c" || p.ppid != 1 || p.ticks != 200 || p.threads != 3 || ttyName(p.tty) != "pts/0" || cpuTime(p.ticks) != "00:00:02" {
		t.Errorf("%+v %v", p, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1"} {
		if _, err := parseStat(bad, machine{}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
