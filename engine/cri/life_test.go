// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
)

func imageConfig() v1.ImageConfig { return v1.ImageConfig{Entrypoint: []string{"/payload"}} }

func TestPodLife(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	conf := w.pod("web")
	pod := w.runPod(conf)
	_, err := w.RunPodSandbox(ctx, &pb.RunPodSandboxRequest{Config: conf})
	w.fails(codes.AlreadyExists, err)
	st, err := w.PodSandboxStatus(ctx, &pb.PodSandboxStatusRequest{PodSandboxId: pod})
	if err != nil {
		t.Fatal(err)
	}
	if s := st.Status; s.State != pb.PodSandboxState_SANDBOX_READY || s.Network.Ip == "" || !maps.Equal(s.Labels, conf.Labels) ||
		!maps.Equal(s.Annotations, conf.Annotations) || !proto.Equal(s.Metadata, conf.Metadata) {
		t.Errorf("status %v", s)
	}
	ask := w.box("main", "wait", "7")
	id := w.start(pod, ask)
	s := w.status(id)
	if s.State != pb.ContainerState_CONTAINER_RUNNING || !maps.Equal(s.Labels, ask.Labels) || !maps.Equal(s.Annotations, ask.Annotations) || s.Image.Image != "payload" || s.StartedAt == 0 {
		t.Errorf("running: %v", s)
	}
	if got := w.exec(id, "host"); got != "web\n" {
		t.Errorf("hostname %q", got)
	}
	_, err = w.StartContainer(ctx, &pb.StartContainerRequest{ContainerId: id})
	w.fails(codes.FailedPrecondition, err)
	_, err = w.CreateContainer(ctx, &pb.CreateContainerRequest{PodSandboxId: pod, Config: ask})
	w.fails(codes.AlreadyExists, err)

	for range 2 { // what is stopped already is stopped
		if _, err := w.StopContainer(ctx, &pb.StopContainerRequest{ContainerId: id, Timeout: 20}); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.status(id); s.State != pb.ContainerState_CONTAINER_EXITED || s.ExitCode != 7 || s.Reason != "Error" || s.FinishedAt == 0 {
		t.Errorf("stopped: %v", s)
	}
	log, err := os.ReadFile(s.LogPath)
	if want := filepath.Join(conf.LogDirectory, "main/0.log"); err != nil || s.LogPath != want || !strings.Contains(string(log), " stdout F ready\n") {
		t.Errorf("log %s: %q, %v", s.LogPath, log, err)
	}
	_, err = w.StartContainer(ctx, &pb.StartContainerRequest{ContainerId: id})
	w.fails(codes.FailedPrecondition, err)

	for range 2 {
		if _, err := w.StopPodSandbox(ctx, &pb.StopPodSandboxRequest{PodSandboxId: pod}); err != nil {
			t.Fatal(err)
		}
	}
	notReady := &pb.PodSandboxFilter{State: &pb.PodSandboxStateValue{State: pb.PodSandboxState_SANDBOX_NOTREADY}, LabelSelector: conf.Labels}
	if l, err := w.ListPodSandbox(ctx, &pb.ListPodSandboxRequest{Filter: notReady}); err != nil || len(l.Items) != 1 || l.Items[0].Id != pod {
		t.Errorf("stopped sandboxes: %v, %v", l, err)
	}
	_, err = w.CreateContainer(ctx, &pb.CreateContainerRequest{PodSandboxId: pod, Config: w.box("late", "host")})
	w.fails(codes.FailedPrecondition, err)
	for range 2 {
		if _, err := w.RemovePodSandbox(ctx, &pb.RemovePodSandboxRequest{PodSandboxId: pod}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.RemoveContainer(ctx, &pb.RemoveContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.PodSandboxStatus(ctx, &pb.PodSandboxStatusRequest{PodSandboxId: pod})
	w.fails(codes.NotFound, err)
	_, err = w.ContainerStatus(ctx, &pb.ContainerStatusRequest{ContainerId: id})
	w.fails(codes.NotFound, err)
	if left := w.eng.Check(ctx); len(left) > 0 {
		t.Error("left:", left)
	}
}

func TestSecurityReachesTheProcess(t *testing.T) {
	w := newWorld(t)
	pod := w.runPod(w.pod("secure"))
	for _, tc := range []struct {
		name   string
		change func(*pb.LinuxContainerSecurityContext)
		args   []string
		want   string
	}{
		{"numbers", func(s *pb.LinuxContainerSecurityContext) {
			s.RunAsUser, s.RunAsGroup, s.SupplementalGroups = &pb.Int64Value{Value: 12}, &pb.Int64Value{Value: 34}, []int64{99}
		}, []string{"id"}, "12 34 [34 99]\n"},
		{"a name", func(s *pb.LinuxContainerSecurityContext) { s.RunAsUsername = "web" }, []string{"id"}, "500 600 [600 700]\n"},
		{"only the groups said", func(s *pb.LinuxContainerSecurityContext) {
			s.RunAsUser, s.SupplementalGroupsPolicy = &pb.Int64Value{Value: 500}, pb.SupplementalGroupsPolicy_Strict
		}, []string{"id"}, "500 600 [600]\n"},
	} {
		c := w.box("sec-"+strings.ReplaceAll(tc.name, " ", "-"), "wait")
		tc.change(c.Linux.SecurityContext)
		id := w.start(pod, c)
		if got := w.exec(id, tc.args...); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if u := w.status(id).User.GetLinux(); !strings.HasPrefix(tc.want, strings.Trim(strings.Join([]string{itoa(u.GetUid()), itoa(u.GetGid())}, " "), " ")) {
			t.Errorf("%s: the status says %v", tc.name, u)
		}
	}
	c := w.box("ro", "wait")
	c.Linux.SecurityContext.ReadonlyRootfs, c.Linux.SecurityContext.NoNewPrivs = true, true
	c.Linux.SecurityContext.MaskedPaths = []string{"/etc"}
	id := w.start(pod, c)
	out, err := w.ExecSync(t.Context(), &pb.ExecSyncRequest{ContainerId: id, Cmd: []string{"/payload", "write", "/x", "y"}})
	if err != nil || out.ExitCode == 0 || !strings.Contains(string(out.Stderr), "read-only") {
		t.Errorf("write to a read-only root: %v, %v", out, err)
	}
	if got := w.exec(id, "ls", "/etc"); got != "" {
		t.Errorf("masked folder holds %q", got)
	}
	text := w.exec(id, "cat", "/proc/self/status")
	for _, line := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in %s", line, text)
		}
	}
}

func TestSharedPidNamespace(t *testing.T) {
	w := newWorld(t)
	conf := w.pod("shared")
	conf.Linux.SecurityContext.NamespaceOptions.Pid = pb.NamespaceMode_POD
	pod := w.runPod(conf)
	in := func(name string, ns *pb.NamespaceOption) string {
		c := w.box(name, "wait")
		c.Linux.SecurityContext.NamespaceOptions = ns
		id := w.start(pod, c)
		return w.exec(id, "link", "/proc/self/ns/pid")
	}
	a, b := in("a", &pb.NamespaceOption{}), in("b", &pb.NamespaceOption{})
	own := in("own", &pb.NamespaceOption{Pid: pb.NamespaceMode_CONTAINER})
	all, err := w.ListContainers(t.Context(), &pb.ListContainersRequest{Filter: &pb.ContainerFilter{LabelSelector: map[string]string{"c": "own"}}})
	if err != nil || len(all.Containers) != 1 {
		t.Fatal(all, err)
	}
	target := in("target", &pb.NamespaceOption{Pid: pb.NamespaceMode_TARGET, TargetId: all.Containers[0].Id})
	if a != b || a == own || own != target {
		t.Errorf("PID namespaces: %s, %s shared; %s own; %s of own", a, b, own, target)
	}
}

func TestExecSync(t *testing.T) {
	w := newWorld(t)
	id := w.start(w.runPod(w.pod("exec")), w.box("main", "wait"))
	out, err := w.ExecSync(t.Context(), &pb.ExecSyncRequest{ContainerId: id, Cmd: []string{"/payload", "exit", "9"}})
	if err != nil || out.ExitCode != 9 {
		t.Errorf("exit 9: %v, %v", out, err)
	}
	_, err = w.ExecSync(t.Context(), &pb.ExecSyncRequest{ContainerId: id, Cmd: []string{"/payload", "sleep", "60000"}, Timeout: 1})
	w.fails(codes.DeadlineExceeded, err)
	// Far more than is kept, on one stream; the command ends all the same.
	out, err = w.ExecSync(t.Context(), &pb.ExecSyncRequest{ContainerId: id, Cmd: []string{"/payload", "cat", "/payload", "/payload", "/payload", "/payload", "/payload"}})
	if err != nil || out.ExitCode != 0 || len(out.Stdout) != maxOutput {
		t.Errorf("much output: %d bytes, exit %d, %v", len(out.GetStdout()), out.GetExitCode(), err)
	}
	_, err = w.ExecSync(t.Context(), &pb.ExecSyncRequest{ContainerId: "nowhere", Cmd: []string{"x"}})
	w.fails(codes.NotFound, err)
}

func TestStreams(t *testing.T) {
	w := newWorld(t)
	id := w.start(w.runPod(w.pod("streams")), w.box("main", "wait"))
	ask := func(stdin bool) *url.URL {
		r, err := w.Exec(t.Context(), &pb.ExecRequest{ContainerId: id, Cmd: []string{"/payload", "copy"}, Stdin: stdin, Stdout: true, Stderr: true})
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, r.Url)
	}
	to := ask(true)
	run := func(u *url.URL) (string, error) {
		x, err := remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, u)
		if err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		err = x.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("round trip"), Stdout: &out, Stderr: &errOut})
		return out.String(), err
	}
	if got, err := run(to); err != nil || got != "round trip" {
		t.Errorf("exec: %q, %v", got, err)
	}
	if _, err := run(to); err == nil {
		t.Error("a token was good twice")
	}
	if _, err := w.Attach(t.Context(), &pb.AttachRequest{ContainerId: id, Stdout: true}); err != nil {
		t.Error(err)
	}
	if _, err := w.PortForward(t.Context(), &pb.PortForwardRequest{PodSandboxId: "nowhere"}); err == nil {
		t.Error("port-forward to nowhere")
	}
}

func TestEventsAndStats(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	events, err := w.GetContainerEvents(ctx, &pb.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Header(); err != nil { // it listens
		t.Fatal(err)
	}
	pod := w.runPod(w.pod("seen"))
	id := w.start(pod, w.box("main", "wait", "0"))
	stats, err := w.ListPodSandboxStats(ctx, &pb.ListPodSandboxStatsRequest{})
	if err != nil || len(stats.Stats) != 1 {
		t.Fatal(stats, err)
	}
	linux := stats.Stats[0].Linux
	if len(linux.Containers) != 1 || linux.Containers[0].Attributes.Id != id || linux.Containers[0].Memory.WorkingSetBytes.Value == 0 || linux.Network.DefaultInterface.Name != "eth0" {
		t.Errorf("stats %v", linux)
	}
	names, err := w.ListMetricDescriptors(ctx, &pb.ListMetricDescriptorsRequest{})
	measured, err2 := w.ListPodSandboxMetrics(ctx, &pb.ListPodSandboxMetricsRequest{})
	if err != nil || err2 != nil || len(measured.PodMetrics) != 1 || len(measured.PodMetrics[0].Metrics) != len(names.Descriptors) {
		t.Errorf("metrics %v, %v, %v", measured, err, err2)
	}
	if _, err := w.RemovePodSandbox(ctx, &pb.RemovePodSandboxRequest{PodSandboxId: pod}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < 8 {
		ev, err := events.Recv()
		if err != nil {
			t.Fatal(got, err)
		}
		what := "container "
		if ev.ContainerId == pod {
			what = "pod "
		}
		got = append(got, what+strings.TrimSuffix(strings.TrimPrefix(ev.ContainerEventType.String(), "CONTAINER_"), "_EVENT"))
	}
	slices.Sort(got)
	if want := []string{"container CREATED", "container DELETED", "container STARTED", "container STOPPED", "pod CREATED", "pod DELETED", "pod STARTED", "pod STOPPED"}; !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
}

func TestOthersAreNotSeen(t *testing.T) {
	w := newWorld(t)
	c, err := w.eng.Create(t.Context(), container.Spec{Image: "payload", Cmd: []string{"wait"}, Labels: map[string]string{labelSandbox: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.ContainerStatus(t.Context(), &pb.ContainerStatusRequest{ContainerId: c.ID})
	w.fails(codes.NotFound, err)
	if _, err := w.RemoveContainer(t.Context(), &pb.RemoveContainerRequest{ContainerId: c.ID}); err != nil {
		t.Error(err)
	}
	if _, err := w.eng.Get(c.ID); err != nil {
		t.Error("another's container was removed")
	}
}

func TestImages(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	pulled, err := w.PullImage(ctx, &pb.PullImageRequest{Image: &pb.ImageSpec{Image: "payload"}})
	if err != nil || !strings.HasPrefix(pulled.ImageRef, "sha256:") {
		t.Fatal(pulled, err) // it is of this store
	}
	st, err := w.ImageStatus(ctx, &pb.ImageStatusRequest{Image: &pb.ImageSpec{Image: pulled.ImageRef}})
	if err != nil || !slices.Equal(st.Image.RepoTags, []string{"docker.io/library/payload:latest"}) || st.Image.Size == 0 {
		t.Errorf("status %v, %v", st, err)
	}
	fs, err := w.ImageFsInfo(ctx, &pb.ImageFsInfoRequest{})
	if err != nil || fs.ImageFilesystems[0].UsedBytes.Value == 0 {
		t.Errorf("%v, %v", fs, err)
	}
	for range 2 {
		if _, err := w.RemoveImage(ctx, &pb.RemoveImageRequest{Image: &pb.ImageSpec{Image: "payload"}}); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := w.ImageStatus(ctx, &pb.ImageStatusRequest{Image: &pb.ImageSpec{Image: "payload"}}); err != nil || st.Image != nil {
		t.Errorf("removed: %v, %v", st, err)
	}
}
