// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestEveryKindHasACode(t *testing.T) {
	for _, kind := range errs.All {
		if c := code(fmt.Errorf("x: %w", kind)); c == codes.Unknown {
			t.Errorf("%v has no code", kind)
		}
	}
}

func TestSeccompFailsClosed(t *testing.T) {
	files := map[string]string{"/ok": ` {"defaultAction":"SCMP_ACT_ERRNO"}`, "/empty": "", "/text": "unconfined"}
	read := func(p string) ([]byte, error) {
		if body, ok := files[p]; ok {
			return []byte(body), nil
		}
		return nil, errors.New("no such file")
	}
	local := func(ref string) *pb.SecurityProfile {
		return &pb.SecurityProfile{ProfileType: pb.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	for _, tc := range []struct {
		p    *pb.SecurityProfile
		old  string
		want string // "!" is refused
	}{
		{nil, "", ""}, {nil, "runtime/default", ""}, {nil, "unconfined", "unconfined"}, {nil, "localhost//ok", `{"defaultAction":"SCMP_ACT_ERRNO"}`},
		{nil, "Unconfined", "!"}, {nil, "localhost/", "!"},
		{&pb.SecurityProfile{}, "unconfined", ""},
		{&pb.SecurityProfile{ProfileType: pb.SecurityProfile_Unconfined}, "", "unconfined"},
		{local("/ok"), "", `{"defaultAction":"SCMP_ACT_ERRNO"}`}, {local("localhost//ok"), "", `{"defaultAction":"SCMP_ACT_ERRNO"}`},
		{local(""), "", "!"}, {local("/empty"), "", "!"}, {local("/text"), "", "!"}, {local("/nowhere"), "", "!"}, {local("ok"), "", "!"},
		{&pb.SecurityProfile{ProfileType: 9}, "", "!"},
	} {
		got, err := seccompOf(tc.p, tc.old, read)
		if tc.want == "!" && !errors.Is(err, errs.Invalid) || tc.want != "!" && (err != nil || got != tc.want) {
			t.Errorf("%v, %q: %q, %v; want %q", tc.p, tc.old, got, err, tc.want)
		}
	}
}

func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	box := container.Sandbox{Spec: container.SandboxSpec{ID: "s"}}
	pod := &pb.PodSandboxConfig{Metadata: &pb.PodSandboxMetadata{Name: "p", Namespace: "n", Uid: "u"}}
	for name, change := range map[string]func(*pb.ContainerConfig, *pb.LinuxContainerSecurityContext){
		"CDI": func(c *pb.ContainerConfig, _ *pb.LinuxContainerSecurityContext) {
			c.CDIDevices = []*pb.CDIDevice{{Name: "v/c=d"}}
		},
		"privileged container": func(_ *pb.ContainerConfig, s *pb.LinuxContainerSecurityContext) { s.Privileged = true },
		"AppArmor": func(_ *pb.ContainerConfig, s *pb.LinuxContainerSecurityContext) {
			s.Apparmor = &pb.SecurityProfile{ProfileType: pb.SecurityProfile_Localhost, LocalhostRef: "p"}
		},
		"ambient": func(_ *pb.ContainerConfig, s *pb.LinuxContainerSecurityContext) {
			s.Capabilities = &pb.Capability{AddAmbientCapabilities: []string{"NET_RAW"}}
		},
		"run_as_group": func(_ *pb.ContainerConfig, s *pb.LinuxContainerSecurityContext) {
			s.RunAsGroup = &pb.Int64Value{Value: 1}
		},
		"user namespaces": func(_ *pb.ContainerConfig, s *pb.LinuxContainerSecurityContext) {
			s.NamespaceOptions = &pb.NamespaceOption{UsernsOptions: &pb.UserNamespace{}}
		},
		"pid namespace mode": func(_ *pb.ContainerConfig, s *pb.LinuxContainerSecurityContext) {
			s.NamespaceOptions = &pb.NamespaceOption{}
		},
		"target_id": func(_ *pb.ContainerConfig, s *pb.LinuxContainerSecurityContext) {
			s.NamespaceOptions = &pb.NamespaceOption{Pid: pb.NamespaceMode_TARGET}
		},
		"image as a volume": func(c *pb.ContainerConfig, _ *pb.LinuxContainerSecurityContext) {
			c.Mounts = []*pb.Mount{{ContainerPath: "/x", Image: &pb.ImageSpec{Image: "i"}}}
		},
		"recursive_read_only": func(c *pb.ContainerConfig, _ *pb.LinuxContainerSecurityContext) {
			c.Mounts = []*pb.Mount{{ContainerPath: "/x", HostPath: "/y", RecursiveReadOnly: true}}
		},
		"stop signal": func(c *pb.ContainerConfig, _ *pb.LinuxContainerSecurityContext) { c.StopSignal = 1000 },
	} {
		sc := &pb.LinuxContainerSecurityContext{}
		c := &pb.ContainerConfig{Metadata: &pb.ContainerMetadata{Name: "c"}, Image: &pb.ImageSpec{Image: "i"}, Linux: &pb.LinuxContainerConfig{SecurityContext: sc}}
		change(c, sc)
		_, err := containerSpec(c, box, pod, nil)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequestsAreToldApart(t *testing.T) {
	want := &pb.ContainerConfig{Metadata: &pb.ContainerMetadata{Name: "c", Attempt: 3}, Envs: []*pb.KeyValue{{Key: "SECRET", Value: []byte("x")}}}
	data, err := keep(containerToKeep(want))
	if err != nil || strings.Contains(string(data), "SECRET") {
		t.Fatal(string(data), err)
	}
	spaced, _ := json.MarshalIndent(data, "", "  ") // as a file may hold it
	got := &pb.ContainerConfig{}
	if !recall(spaced, got) || got.Metadata.Attempt != 3 {
		t.Errorf("recalled %v", got)
	}
	for _, other := range []string{"", "{}", `{"HostConfig":{}}`, `{"HostConfig":{},"cri":{}}`, `{"cri":3}`, "nonsense"} {
		if recall(json.RawMessage(other), got) {
			t.Errorf("%q is taken for ours", other)
		}
	}
}

func TestSignalsThereAndBack(t *testing.T) {
	for n := range pb.Signal_name {
		s := pb.Signal(n)
		name, err := signalName(s)
		if err != nil {
			t.Error(err)
		}
		if back := signalOf(name); name != "" && back != s {
			t.Errorf("%s is %q, and back %s", s, name, back)
		}
	}
}

func TestNamesFitTheEngine(t *testing.T) {
	seen := map[string]bool{}
	for _, uid := range []string{"u", "u/1", "u:1", strings.Repeat("x", 300), strings.Repeat("x", 301)} {
		n := engineName("c", &pb.PodSandboxMetadata{Name: "p", Namespace: "n", Uid: uid}, 0)
		if seen[n] || len(n) > 255 || strings.ContainsAny(n, "/:") {
			t.Errorf("uid %.10s: name %q", uid, n)
		}
		seen[n] = true
	}
}
