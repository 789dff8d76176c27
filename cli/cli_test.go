// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// knarr runs a command line against a socket that is not there.
func knarr(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(t.Context(), append([]string{"--host", "unix://" + filepath.Join(t.TempDir(), "none.sock")}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestWrongUsageExitsWith2AndOneSentence(t *testing.T) {
	for line, want := range map[string]string{
		"frob": "unknown command", "volume frob": "unknown command", "network frob": "unknown command",
		"run": "an image", "run --nosuch x": "unknown flag: --nosuch", "run -m lots x": "lots", "run --cpus zero x": "--cpus",
		"run -p 1:2:3:4 x": "--publish", "run -p 80/ftp x": "--publish", "run -p 80-90:1-2 x": "--publish", "run --mount type=bind x": "target is missing",
		"run --mount bogus=1,target=/x x": "bogus", "run -e =x x": "--env", "run --dns me x": "--dns", "run --restart on-failure:x y": "--restart",
		"run --device a:b:c:d x": "--device", "run --ulimit nofile x": "--ulimit", "run --pull sometimes x": "--pull", "run --detach-keys ctrl-1 x": "detach keys",
		"run --platform arm64 x": "--platform", "run --expose x y": "--expose", "run --no-healthcheck --health-cmd a x": "exclude each other",
		"exec x": "a container and a command", "ps extra": "extra", "ps -f nonsense": "nonsense", "commit": "see knarr commit --help",
		"port x y z": "see knarr port --help", "port x y": `"y" is not a port`, "rename x": "its new name", "tag x": "a name", "update x": "at least one flag",
		"stop": "container", "stop -t soon x": "soon", "images --nosuch": "--nosuch", "start -a x y": "one container", "build": "a folder",
	} {
		code, out, errOut := knarr(t, strings.Fields(line)...)
		if code != 2 || out != "" || !strings.Contains(errOut, want) || !strings.HasPrefix(errOut, "knarr: ") || strings.Count(errOut, "\n") != 1 {
			t.Errorf("knarr %s: exit %d, stdout %q, stderr %q; want exit 2 and one line with %q", line, code, out, errOut, want)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	for line, want := range map[string]int{"ps": 1, "run x": 125, "exec x y": 125, "logs x": 1, "stop x": 1, "pull x": 1, "inspect x": 1, "stats": 1} {
		code, _, errOut := knarr(t, strings.Fields(line)...)
		if code != want || !strings.Contains(errOut, "no daemon answers at unix://") || !strings.Contains(errOut, "knarr up") {
			t.Errorf("knarr %s: exit %d, %q; want %d", line, code, errOut, want)
		}
	}
}

// TestHelp compares the first page a new user sees with testdata/help.txt, and checks that each command explains itself.
// What ends containers must be sure whose.
func TestDownRefusesAnotherInstancesHost(t *testing.T) {
	t.Setenv("KNARR_HOST", "unix:///run/other/engine.sock")
	for _, verb := range []string{"down", "stop-all"} {
		var out, errOut bytes.Buffer
		code := Main(t.Context(), []string{verb, "--name", "x", "--data-dir", "/nonexistent/x", "--run-dir", "/run/nonexistent-x"}, nil, &out, &errOut)
		if code != 2 || !strings.Contains(errOut.String(), "/run/other/engine.sock") {
			t.Errorf("%s: code %d, %q", verb, code, errOut.String())
		}
	}
}

func TestHelp(t *testing.T) {
	code, out, errOut := knarr(t, "--help")
	if code != 0 || errOut != "" {
		t.Fatalf("exit %d, %s", code, errOut)
	}
	golden := filepath.Join("testdata", "help.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out != string(want) {
		t.Errorf("knarr --help changed; see the difference and run with -update:\n%s", out)
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s says nothing of itself", c.CommandPath())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" && !f.Hidden {
				t.Errorf("%s --%s says nothing of itself", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&env{out: io.Discard, err: io.Discard}).root())
}

// parse answers the request that a command line of run makes.
func parse(t *testing.T, args ...string) client.ContainerCreateOptions {
	t.Helper()
	var f containerFlags
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.add(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	o, err := f.options(fs.Args())
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return o
}

func TestRunFlags(t *testing.T) {
	t.Setenv("FROM_SHELL", "here")
	for line, got := range map[string]func(o client.ContainerCreateOptions) string{
		"img -x --rm => [-x --rm]":                                  func(o client.ContainerCreateOptions) string { return fmt.Sprint(o.Config.Cmd) },
		"--rm --name n img => true n":                               func(o client.ContainerCreateOptions) string { return fmt.Sprint(o.HostConfig.AutoRemove, " ", o.Name) },
		"-e A=b -e FROM_SHELL -e UNSET_ x => [A=b FROM_SHELL=here]": func(o client.ContainerCreateOptions) string { return fmt.Sprint(o.Config.Env) },
		"-m 64m --memory-swap -1 --cpus 1.5 x => 67108864 -1 1500000000": func(o client.ContainerCreateOptions) string {
			return fmt.Sprint(o.HostConfig.Memory, o.HostConfig.MemorySwap, o.HostConfig.NanoCPUs)
		},
		"--pids-limit 9 x => 9": func(o client.ContainerCreateOptions) string { return fmt.Sprint(*o.HostConfig.PidsLimit) },
		"--restart on-failure:3 x => on-failure 3": func(o client.ContainerCreateOptions) string {
			return fmt.Sprint(o.HostConfig.RestartPolicy.Name, " ", o.HostConfig.RestartPolicy.MaximumRetryCount)
		},
		"--device /dev/a:r --device /dev/b:/dev/c:rw x => [{/dev/a /dev/a r} {/dev/b /dev/c rw}]": func(o client.ContainerCreateOptions) string {
			return fmt.Sprint(o.HostConfig.Devices)
		},
		"--tmpfs /t:size=1m x => map[/t:size=1m]": func(o client.ContainerCreateOptions) string { return fmt.Sprint(o.HostConfig.Tmpfs) },
		"--health-cmd true --health-retries 2 x => [CMD-SHELL true] 2": func(o client.ContainerCreateOptions) string {
			return fmt.Sprint(o.Config.Healthcheck.Test, " ", o.Config.Healthcheck.Retries)
		},
		"--log-opt max-size=1m x => map[max-size:1m]": func(o client.ContainerCreateOptions) string { return fmt.Sprint(o.HostConfig.LogConfig.Config) },
		"--platform linux/arm/v7 x => linux arm v7": func(o client.ContainerCreateOptions) string {
			return o.Platform.OS + " " + o.Platform.Architecture + " " + o.Platform.Variant
		},
	} {
		args, want, _ := strings.Cut(line, " => ")
		if g := got(parse(t, strings.Fields(args)...)); g != want {
			t.Errorf("run %s: %s, want %s", args, g, want)
		}
	}
}

func TestPorts(t *testing.T) {
	for flag, want := range map[string]string{
		"80": "80/tcp=>:", "8080:80": "80/tcp=>:8080", "127.0.0.1:8080:80/udp": "80/udp=>127.0.0.1:8080", "127.0.0.1::80": "80/tcp=>127.0.0.1:",
		"8000-8001:80-81": "80/tcp=>:8000 81/tcp=>:8001", "[::1]:1:2": "2/tcp=>::1:1",
	} {
		o := parse(t, "-p", flag, "img")
		var got []string
		for p, list := range o.HostConfig.PortBindings {
			for _, b := range list {
				ip := ""
				if b.HostIP.IsValid() {
					ip = b.HostIP.String()
				}
				got = append(got, p.String()+"=>"+ip+":"+b.HostPort)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("-p %s: %v, want %s", flag, got, want)
		}
	}
	shown := ports([]container.PortSummary{
		{PrivatePort: 80, PublicPort: 8080, Type: "tcp", IP: netip.IPv4Unspecified()}, {PrivatePort: 53, Type: "udp"},
	})
	if shown != "0.0.0.0:8080->80/tcp, 53/udp" {
		t.Errorf("ports: %s", shown)
	}
}

func TestFilters(t *testing.T) {
	f, err := parseFilters([]string{"name=a", "name=b", "label=k=v"})
	if err != nil || !f["name"]["a"] || !f["name"]["b"] || !f["label"]["k=v"] {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := parseFilters([]string{"x"}); !errors.As(err, new(usageError)) {
		t.Errorf("a filter without value: %v", err)
	}
}

func TestRunErrorChoosesDockersCodes(t *testing.T) {
	e := &env{}
	for text, want := range map[string]int{
		`exec: "x": executable file not found in $PATH`: 127, `exec: "/x": stat /x: no such file or directory`: 127,
		`exec: "/etc": permission denied`: 126, `exec: "/etc": is a directory`: 126, "port 80/tcp is already in use": 125,
	} {
		var exit exitError
		if err := e.runError(errors.New(text)); !errors.As(err, &exit) || exit.code != want {
			t.Errorf("%s: %v, want %d", text, err, want)
		}
	}
}

func TestContextLeavesOutWhatIsIgnored(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Dockerfile": "FROM scratch", ".dockerignore": "*.log\nsecret\n!keep.log\nDockerfile\n", "a.txt": "a", "b.log": "b", "keep.log": "k", "secret/key": "s", "sub/c": "c",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := (&env{}).buildContext(dir, "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s belongs to %d %q", h.Name, h.Uid, h.Uname)
		}
		got = append(got, h.Name)
	}
	slices.Sort(got)
	if want := ".dockerignore Dockerfile a.txt keep.log sub sub/c"; strings.Join(got, " ") != want {
		t.Errorf("context: %v, want %s", got, want)
	}
	if _, err := (&env{}).buildContext(filepath.Join(dir, "sub"), "", false); err == nil || !strings.Contains(err.Error(), "no Dockerfile") {
		t.Errorf("a folder without a Dockerfile: %v", err)
	}
}

func TestStatsRow(t *testing.T) {
	var s container.StatsResponse
	s.ID, s.Name = strings.Repeat("a", 64), "/web"
	s.MemoryStats = container.MemoryStats{Usage: 3 << 20, Limit: 10 << 20, Stats: map[string]uint64{"inactive_file": 1 << 20}}
	s.CPUStats = container.CPUStats{CPUUsage: container.CPUUsage{TotalUsage: 300}, SystemUsage: 2000, OnlineCPUs: 2}
	s.PreCPUStats = container.CPUStats{CPUUsage: container.CPUUsage{TotalUsage: 100}, SystemUsage: 1000}
	s.PidsStats.Current = 4
	if got, want := statsRow(s), "aaaaaaaaaaaa\tweb\t40.00%\t2MiB / 10MiB\t20.00%\t0B / 0B\t0B / 0B\t4"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDockerfileIsRelativeToHere(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, f := range []string{"app/Dockerfile.dev", "Dockerfile.out"} {
		os.MkdirAll(filepath.Dir(f), 0o755)
		os.WriteFile(f, []byte("FROM scratch"), 0o644)
	}
	for _, c := range []struct{ dir, file, want, fault string }{
		{"app", "app/Dockerfile.dev", "Dockerfile.dev", ""}, {"app", "Dockerfile.dev", "Dockerfile.dev", ""},
		{".", "app/Dockerfile.dev", "app/Dockerfile.dev", ""}, {"app", "Dockerfile.out", "../Dockerfile.out", ""}, {"app", "nosuch", "", "no Dockerfile nosuch"},
	} {
		got, inside, err := dockerfileIn(c.dir, c.file)
		if err == nil && inside == strings.HasPrefix(got, "..") {
			t.Errorf("%s in %s: inside %v", c.file, c.dir, inside)
		}
		if got != c.want || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s in %s: %q, %v", c.file, c.dir, got, err)
		}
	}
}
