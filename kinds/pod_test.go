// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodDefaults(t *testing.T) {
	_, o := object(t, pod(`
hostNetwork: true
initContainers: [{name: i, image: "i:latest", resources: {limits: {cpu: 1500u}}}]
containers:
- {name: a, image: "localhost:5000/a", ports: [{containerPort: 80}], livenessProbe: {httpGet: {port: 80}}}
- {name: b, image: "a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}
- {name: c, image: "???"}
serviceAccount: old
volumes: [{name: v}, {name: s, secret: {secretName: s}}, {name: h, hostPath: {path: /}}, {name: p, projected: {sources: [{serviceAccountToken: {path: t}}]}}]`))
	s := o.(*corev1.Pod).Spec
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"restartPolicy", s.RestartPolicy, corev1.RestartPolicyAlways},
		{"dnsPolicy", s.DNSPolicy, corev1.DNSClusterFirst},
		{"grace", *s.TerminationGracePeriodSeconds, int64(30)},
		{"scheduler", s.SchedulerName, "default-scheduler"},
		{"securityContext", s.SecurityContext != nil, true},
		{"service links", *s.EnableServiceLinks, true},
		{"service account", s.ServiceAccountName, "old"},
		{"pull of latest", s.InitContainers[0].ImagePullPolicy, corev1.PullAlways},
		{"pull without tag", s.Containers[0].ImagePullPolicy, corev1.PullAlways},
		{"pull by digest", s.Containers[1].ImagePullPolicy, corev1.PullIfNotPresent},
		{"pull of nonsense", s.Containers[2].ImagePullPolicy, corev1.PullIfNotPresent},
		{"message path", s.Containers[0].TerminationMessagePath, "/dev/termination-log"},
		{"host port", s.Containers[0].Ports[0].HostPort, int32(80)},
		{"protocol", s.Containers[0].Ports[0].Protocol, corev1.ProtocolTCP},
		{"probe path", s.Containers[0].LivenessProbe.HTTPGet.Path, "/"},
		{"probe period", s.Containers[0].LivenessProbe.PeriodSeconds, int32(10)},
		{"field version", s.Containers[1].Env[0].ValueFrom.FieldRef.APIVersion, "v1"},
		{"request from limit, rounded", s.InitContainers[0].Resources.Requests.Cpu().String(), "2m"},
		{"empty volume", s.Volumes[0].EmptyDir != nil, true},
		{"secret mode", *s.Volumes[1].Secret.DefaultMode, int32(420)},
		{"host path type", *s.Volumes[2].HostPath.Type, corev1.HostPathUnset},
		{"token life", *s.Volumes[3].Projected.Sources[0].ServiceAccountToken.ExpirationSeconds, int64(3600)},
	} {
		if c.got != c.want {
			t.Errorf("%s = %v, want %v", c.name, c.got, c.want)
		}
	}
}

func TestTemplatesGetNoPodOnlyDefaults(t *testing.T) {
	_, o := object(t, "kind: Deployment\nspec: {template: {spec: {hostNetwork: true, containers: [{name: a, image: a, ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}}]}}}")
	spec := podSpecOf(t, o)
	if spec.EnableServiceLinks != nil || spec.Containers[0].Ports[0].HostPort != 0 || spec.Containers[0].Resources.Requests != nil {
		t.Errorf("a template's hash would change: %+v", spec)
	}
}

func TestQOSClass(t *testing.T) {
	for _, c := range []struct {
		containers string
		want       corev1.PodQOSClass
	}{
		{"[{name: a}]", corev1.PodQOSBestEffort},
		{"[{name: a, resources: {limits: {example.com/gpu: 1}}}]", corev1.PodQOSBestEffort},
		{"[{name: a, resources: {requests: {cpu: 1}}}]", corev1.PodQOSBurstable},
		{"[{name: a, resources: {limits: {cpu: 1}}}]", corev1.PodQOSBurstable},
		{"[{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]", corev1.PodQOSGuaranteed},
		{"[{name: a, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}}]", corev1.PodQOSBurstable},
		{"[{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}, {name: b}]", corev1.PodQOSBurstable},
	} {
		_, o := object(t, pod("containers: "+c.containers))
		if got := o.(*corev1.Pod).Status.QOSClass; got != c.want {
			t.Errorf("%s is %s, want %s", c.containers, got, c.want)
		}
	}
}

func TestPodRequests(t *testing.T) {
	_, o := object(t, pod(`
initContainers:
- {name: big, resources: {requests: {cpu: "3"}}}
- {name: side, restartPolicy: Always, resources: {requests: {cpu: "1"}}}
- {name: after, resources: {requests: {cpu: "1"}}}
containers: [{name: a, resources: {requests: {cpu: 500m, memory: 1Gi}}}, {name: b, resources: {requests: {cpu: 500m}}}]
overhead: {cpu: 100m}`))
	got := PodRequests(&o.(*corev1.Pod).Spec)
	if want := resource.MustParse("3100m"); got.Cpu().Cmp(want) != 0 || got.Memory().String() != "1Gi" {
		t.Errorf("requests = %v cpu, %v memory", got.Cpu(), got.Memory())
	}
}

func TestPodLimits(t *testing.T) {
	for _, x := range []struct{ rule, spec, cpu, memory string }{
		{"all have one: the sum", `
containers: [{name: a, resources: {limits: {cpu: "1", memory: 1Gi}}}, {name: b, resources: {limits: {cpu: "2", memory: 1Gi}}}]`, "3", "2Gi"},
		{"one has none: no bound", `
containers: [{name: a, resources: {limits: {cpu: "1", memory: 1Gi}}}, {name: b, resources: {limits: {memory: 1Gi}}}]`, "", "2Gi"},
		{"an init container counts too", `
initContainers: [{name: i, resources: {limits: {cpu: "4"}}}]
containers: [{name: a, resources: {limits: {cpu: "1", memory: 1Gi}}}]`, "4", ""},
		{"overhead is on top of a bound, and makes none", `
containers: [{name: a, resources: {limits: {cpu: "1"}}}]
overhead: {cpu: 100m, memory: 1Gi}`, "1100m", ""},
		{"the pod's own wins, without overhead", `
resources: {limits: {cpu: "2"}}
containers: [{name: a, resources: {limits: {cpu: "1"}}}, {name: b}]
overhead: {cpu: 100m}`, "2", ""},
	} {
		_, o := object(t, pod(x.spec))
		got := PodLimits(&o.(*corev1.Pod).Spec)
		for name, want := range map[corev1.ResourceName]string{corev1.ResourceCPU: x.cpu, corev1.ResourceMemory: x.memory} {
			q, ok := got[name]
			if ok != (want != "") || ok && q.Cmp(resource.MustParse(want)) != 0 {
				t.Errorf("%s: %s = %q, want %q", x.rule, name, q.String(), want)
			}
		}
	}
}

func TestPodGrace(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	for _, c := range []struct {
		node      string
		phase     corev1.PodPhase
		spec, req *int64
		want      int64
	}{
		{"", corev1.PodPending, n(30), nil, 0},
		{"a", corev1.PodRunning, n(30), nil, 30},
		{"a", corev1.PodRunning, n(30), n(5), 5},
		{"a", corev1.PodRunning, n(30), n(0), 0},
		{"a", corev1.PodFailed, n(30), nil, 0},
		{"a", corev1.PodRunning, n(30), n(-5), 1},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: c.node, TerminationGracePeriodSeconds: c.spec}, Status: corev1.PodStatus{Phase: c.phase}}
		if got := For[corev1.Pod]().Grace(p, c.req); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestPodsInOneWord(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC))
	waiting := func(r string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: r}}
	}
	ended := func(r string, code, signal int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: r, ExitCode: code, Signal: signal}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	yes := true
	always := corev1.ContainerRestartPolicyAlways
	spec := corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i"}, {Name: "s", RestartPolicy: &always}},
		Containers:     []corev1.Container{{Name: "a"}, {Name: "b"}},
	}
	done := corev1.ContainerStatus{Name: "i", State: ended("Completed", 0, 0), RestartCount: 7}
	side := corev1.ContainerStatus{Name: "s", State: running, Ready: true, Started: &yes, RestartCount: 1}
	last := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-5 * time.Minute))}}
	for name, c := range map[string]struct {
		status   corev1.PodStatus
		deleting bool
		want     string
	}{
		"just made":       {corev1.PodStatus{Phase: corev1.PodPending}, false, "Pending 0/3 0"},
		"evicted":         {corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}, false, "Evicted 0/3 0"},
		"initialising":    {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{Name: "i", State: running}}}, false, "Init:0/2 0/3 0"},
		"init image":      {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{Name: "i", State: waiting("ImagePullBackOff")}}}, false, "Init:ImagePullBackOff 0/3 0"},
		"init crash":      {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{Name: "i", State: ended("", 3, 0), RestartCount: 2}}}, false, "Init:ExitCode:3 0/3 2"},
		"init killed":     {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{Name: "i", State: ended("", 0x89, 9)}}}, false, "Init:Signal:9 0/3 0"},
		"creating":        {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{done, side}, ContainerStatuses: []corev1.ContainerStatus{{State: waiting("ContainerCreating")}, {State: waiting("ContainerCreating")}}}, false, "ContainerCreating 1/3 1"},
		"crashing":        {corev1.PodStatus{Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{done, side}, ContainerStatuses: []corev1.ContainerStatus{{State: waiting("CrashLoopBackOff"), RestartCount: 2, LastTerminationState: last}, {State: running, Ready: true}}}, false, "CrashLoopBackOff 2/3 3 (5m ago)"},
		"running":         {corev1.PodStatus{Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{done, side}, ContainerStatuses: []corev1.ContainerStatus{{State: running, Ready: true}, {State: running, Ready: true}}}, false, "Running 3/3 1"},
		"one has ended":   {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{State: ended("Completed", 0, 0)}, {State: running, Ready: true}}}, false, "NotReady 1/3 0"},
		"all have ended":  {corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{{State: ended("Completed", 0, 0)}, {State: ended("Completed", 0, 0)}}}, false, "Completed 0/3 0"},
		"out of memory":   {corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{State: ended("OOMKilled", 137, 9)}}}, false, "OOMKilled 0/3 0"},
		"being deleted":   {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{State: running, Ready: true}}}, true, "Terminating 1/3 0"},
		"node is lost":    {corev1.PodStatus{Phase: corev1.PodRunning, Reason: "NodeLost"}, true, "Unknown 0/3 0"},
		"held by a gate":  {corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Reason: "SchedulingGated"}}}, false, "SchedulingGated 0/3 0"},
		"killed, no word": {corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{State: ended("", 137, 9)}}}, false, "Signal:9 0/3 0"},
	} {
		p := &corev1.Pod{Spec: spec, Status: c.status}
		if c.deleting {
			p.DeletionTimestamp = &now
		}
		o := Object(p)
		cells := map[string]any{}
		for _, col := range For[corev1.Pod]().Columns {
			cells[col.Name] = col.Cell(&o, now.Time)
		}
		if got := fmt.Sprintf("%s %s %s", cells["Status"], cells["Ready"], cells["Restarts"]); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
