// SPDX-License-Identifier: Apache-2.0

package deployment_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/knarr/knarr/controllers/deployment"
	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/controllers/replicaset"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

// cluster is a world with a clock and a deployment "web".
type cluster struct {
	*reconciletest.World
	now   time.Time
	stuck bool   // new pods never become ready
	image string // whose pods never do, when set
}

func web(replicas int32, image string, edit ...func(*appsv1.Deployment)) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
			},
		},
	}
	kinds.Deployment.Default(d)
	for _, e := range edit {
		e(d)
	}
	return d
}

func newCluster(ctx context.Context, d *appsv1.Deployment) *cluster {
	c := &cluster{now: time.Unix(1_000_000, 0)}
	c.World = reconciletest.New(ctx, func() time.Time { return c.now }, d)
	return c
}

// kubelet makes pods ready and lets deleted ones end.
func (c *cluster) kubelet(*reconciletest.World) {
	c.now = c.now.Add(time.Second)
	for p := range cache.List[corev1.Pod](c.Cache.Snapshot(), "") {
		switch {
		case p.DeletionTimestamp != nil:
			c.Remove(p)
		case c.stuck || c.image != "" && p.Spec.Containers[0].Image == c.image:
		case !pods.Ready(p):
			c.ready(p)
		}
	}
}

func (c *cluster) ready(p *corev1.Pod) {
	q := p.DeepCopy()
	q.Spec.NodeName = "node"
	q.Status.Phase = corev1.PodRunning
	q.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(c.now)}}
	c.Put(q)
}

func (c *cluster) settle(t reconciletest.TB, invariant func(*cache.Snapshot) error) {
	t.Helper()
	reconciletest.Converges(t, c.World, reconciletest.Check{Settle: c.kubelet, Invariant: invariant, Rounds: 200},
		deployment.Controller(), replicaset.Controller())
}

func (c *cluster) deployment() *appsv1.Deployment {
	d, _ := cache.Get[appsv1.Deployment](c.Cache.Snapshot(), "default", "web")
	return d
}

func (c *cluster) edit(f func(*appsv1.Deployment)) {
	d := c.deployment().DeepCopy()
	f(d)
	d.Generation++
	c.Put(d)
}

// sets writes the ReplicaSets down: revision:image×size.
func (c *cluster) sets() string {
	var out []string
	for rs := range cache.List[appsv1.ReplicaSet](c.Cache.Snapshot(), "") {
		out = append(out, fmt.Sprintf("%s:%s×%d", rs.Annotations["deployment.kubernetes.io/revision"], rs.Spec.Template.Spec.Containers[0].Image, *rs.Spec.Replicas))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func condition(d *appsv1.Deployment, t appsv1.DeploymentConditionType) string {
	for _, c := range d.Status.Conditions {
		if c.Type == t {
			return fmt.Sprintf("%s %s", c.Status, c.Reason)
		}
	}
	return "none"
}

func image(d *appsv1.Deployment, name string) { d.Spec.Template.Spec.Containers[0].Image = name }

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestARolloutFromNothingToRollback(t *testing.T) {
	c := newCluster(t.Context(), web(3, "v1"))
	c.settle(t, nil)
	want(t, "first", c.sets(), "1:v1×3")
	d := c.deployment()
	want(t, "revision", d.Annotations["deployment.kubernetes.io/revision"], "1")
	want(t, "available", condition(d, appsv1.DeploymentAvailable), "True MinimumReplicasAvailable")
	want(t, "progressing", condition(d, appsv1.DeploymentProgressing), "True NewReplicaSetAvailable")
	if s := d.Status; s.Replicas != 3 || s.UpdatedReplicas != 3 || s.ReadyReplicas != 3 || s.AvailableReplicas != 3 || s.UnavailableReplicas != 0 || s.ObservedGeneration != d.Generation {
		t.Errorf("status %+v of generation %d", s, d.Generation)
	}

	c.edit(func(d *appsv1.Deployment) { image(d, "v2") })
	c.settle(t, nil)
	want(t, "second", c.sets(), "1:v1×0 2:v2×3")
	c.edit(func(d *appsv1.Deployment) { image(d, "v3") })
	c.settle(t, nil)
	want(t, "third", c.sets(), "1:v1×0 2:v2×0 3:v3×3")

	c.edit(func(d *appsv1.Deployment) { image(d, "v1") }) // what kubectl rollout undo --to-revision=1 patches
	c.settle(t, nil)
	want(t, "rolled back", c.sets(), "2:v2×0 3:v3×0 4:v1×3")
	want(t, "revision", c.deployment().Annotations["deployment.kubernetes.io/revision"], "4")
	for rs := range cache.List[appsv1.ReplicaSet](c.Cache.Snapshot(), "") {
		if rs.Spec.Template.Spec.Containers[0].Image == "v1" {
			want(t, "history", rs.Annotations["deployment.kubernetes.io/revision-history"], "1")
			hash := rs.Labels["pod-template-hash"]
			if hash == "" || rs.Name != "web-"+hash || rs.Spec.Selector.MatchLabels["pod-template-hash"] != hash || rs.Spec.Template.Labels["pod-template-hash"] != hash {
				t.Errorf("hash %q of %+v", hash, rs.ObjectMeta)
			}
		}
	}
}

func TestScalingKeepsTheRevision(t *testing.T) {
	c := newCluster(t.Context(), web(3, "v1"))
	c.settle(t, nil)
	for _, n := range []int32{10, 0, 1} {
		c.edit(func(d *appsv1.Deployment) { d.Spec.Replicas = &n })
		c.settle(t, nil)
		want(t, "scaled", c.sets(), fmt.Sprintf("1:v1×%d", n))
	}
}

func TestAStuckRolloutKeepsWhatWorksAndTimesOut(t *testing.T) {
	c := newCluster(t.Context(), web(4, "v1"))
	c.settle(t, nil)
	c.image = "broken"
	c.edit(func(d *appsv1.Deployment) { image(d, "broken") })
	c.settle(t, nil) // 25 % of 4: one above, one unavailable
	want(t, "stuck", c.sets(), "1:v1×3 2:broken×2")
	want(t, "available", condition(c.deployment(), appsv1.DeploymentAvailable), "True MinimumReplicasAvailable")
	c.now = c.now.Add(601 * time.Second)
	c.settle(t, nil)
	want(t, "progressing", condition(c.deployment(), appsv1.DeploymentProgressing), "False ProgressDeadlineExceeded")

	// Scaled in the middle of it, both grow in proportion: 5 pods of 4+1 become 10 of 8+2.
	n := int32(8)
	c.edit(func(d *appsv1.Deployment) { d.Spec.Replicas = &n })
	plan, _ := deployment.Controller().Explain(c.Cache.Snapshot(), reconcile.Key{Namespace: "default", Name: "web"}, c.now)
	if got := plan.String(); !strings.Contains(got, `from 3 to 6`) || !strings.Contains(got, `from 2 to 4`) {
		t.Errorf("plan %s", got)
	}
	c.edit(func(d *appsv1.Deployment) { image(d, "v1") })
	c.settle(t, nil)
	want(t, "undone", c.sets(), "2:broken×0 3:v1×8")
	want(t, "progressing", condition(c.deployment(), appsv1.DeploymentProgressing), "True NewReplicaSetAvailable")
}

func TestPausedDeploymentsScaleButDoNotRoll(t *testing.T) {
	c := newCluster(t.Context(), web(2, "v1"))
	c.settle(t, nil)
	n := int32(4)
	c.edit(func(d *appsv1.Deployment) { d.Spec.Paused = true; image(d, "v2"); d.Spec.Replicas = &n })
	c.settle(t, nil)
	want(t, "paused", c.sets(), "1:v1×4")
	want(t, "progressing", condition(c.deployment(), appsv1.DeploymentProgressing), "Unknown DeploymentPaused")
	c.edit(func(d *appsv1.Deployment) { d.Spec.Paused = false })
	c.settle(t, nil)
	want(t, "resumed", c.sets(), "1:v1×0 2:v2×4")
}

func TestRecreateNeverRunsTwoTemplatesAtOnce(t *testing.T) {
	c := newCluster(t.Context(), web(3, "v1", func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}))
	one := func(s *cache.Snapshot) error {
		images := map[string]bool{}
		for p := range cache.List[corev1.Pod](s, "") {
			images[p.Spec.Containers[0].Image] = true
		}
		if len(images) > 1 {
			return fmt.Errorf("pods of %v", images)
		}
		return nil
	}
	c.settle(t, one)
	c.edit(func(d *appsv1.Deployment) { image(d, "v2") })
	c.settle(t, one)
	want(t, "recreated", c.sets(), "1:v1×0 2:v2×3")
}

func TestRevisionHistoryLimit(t *testing.T) {
	limit := int32(2)
	c := newCluster(t.Context(), web(1, "v1", func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &limit }))
	c.settle(t, nil)
	for i := 2; i <= 5; i++ {
		c.edit(func(d *appsv1.Deployment) { image(d, fmt.Sprint("v", i)) })
		c.settle(t, nil)
	}
	want(t, "kept", c.sets(), "3:v3×0 4:v4×0 5:v5×1")
}

func TestAHashCollisionIsCounted(t *testing.T) {
	d := web(1, "v1")
	c := newCluster(t.Context(), d)
	plan, _ := deployment.Controller().Explain(c.Cache.Snapshot(), reconcile.Key{Namespace: "default", Name: "web"}, c.now)
	name := plan.Actions[0].(reconcile.Create).Object.GetName()
	c.Put(&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: appsv1.ReplicaSetSpec{
		Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}},
	}})
	c.settle(t, nil)
	if n := c.deployment().Status.CollisionCount; n == nil || *n != 1 {
		t.Errorf("collisions %v", n)
	}
	if s := c.deployment().Status; s.AvailableReplicas != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestEventsAndPlanOfANewDeployment(t *testing.T) {
	c := newCluster(t.Context(), web(2, "v1"))
	plan, _ := deployment.Controller().Explain(c.Cache.Snapshot(), reconcile.Key{Namespace: "default", Name: "web"}, c.now)
	name := plan.Actions[0].(reconcile.Create).Object.GetName()
	want(t, "plan", plan.String(), fmt.Sprintf(`create ReplicaSet default/%s; event ScalingReplicaSet "Scaled up replica set %s from 0 to 2"; status Deployment default/web`, name, name))
}

// TestRolloutsKeepTheirBounds: whatever the numbers and however slow the pods, a rollout never has more than replicas +
// maxSurge pods wanted, never fewer than replicas - maxUnavailable available, and it ends.
func TestRolloutsKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.Int32Range(1, 12).Draw(rt, "replicas")
		surge := rapid.IntRange(0, 5).Draw(rt, "maxSurge")
		least := 0
		if surge == 0 {
			least = 1
		}
		down := rapid.IntRange(least, 5).Draw(rt, "maxUnavailable")
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := newCluster(ctx, web(n, "v1", func(d *appsv1.Deployment) {
			s, u := intstr.FromInt32(int32(surge)), intstr.FromInt32(int32(down))
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}
		}))
		c.settle(rt, nil)
		c.edit(func(d *appsv1.Deployment) { image(d, "v2") })
		slow := func(*reconciletest.World) { // some pods become ready, some deleted ones end
			c.now = c.now.Add(time.Second)
			for p := range cache.List[corev1.Pod](c.Cache.Snapshot(), "") {
				switch {
				case p.DeletionTimestamp == nil && pods.Ready(p):
				case rapid.IntRange(0, 2).Draw(rt, "wait") == 0:
					c.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tick"}}) // the world is not at rest
				case p.DeletionTimestamp != nil:
					c.Remove(p)
				default:
					c.ready(p)
				}
			}
		}
		invariant := func(s *cache.Snapshot) error {
			wanted, ready := int32(0), int32(0)
			for rs := range cache.List[appsv1.ReplicaSet](s, "") {
				wanted += *rs.Spec.Replicas
			}
			for p := range cache.List[corev1.Pod](s, "") {
				if pods.Active(p) && pods.Ready(p) {
					ready++
				}
			}
			if wanted > n+int32(surge) {
				return fmt.Errorf("%d pods wanted, of %d and a surge of %d", wanted, n, surge)
			}
			if ready < n-int32(down) {
				return fmt.Errorf("%d pods available, of %d and %d unavailable", ready, n, down)
			}
			return nil
		}
		reconciletest.Converges(rt, c.World, reconciletest.Check{Settle: slow, Invariant: invariant, Rounds: 500},
			deployment.Controller(), replicaset.Controller())
		if s := c.deployment().Status; s.UpdatedReplicas != n || s.AvailableReplicas != n || s.Replicas != n {
			rt.Fatalf("status %+v", s)
		}
	})
}
