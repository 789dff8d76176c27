// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/events"
)

// Images is what the reporter asks the runtime for; an answer is also the sign that it lives.
type Images interface {
	ListImages(ctx context.Context) ([]podruntime.Image, error)
}

// Reporter keeps the node's object and lease.
type Reporter struct {
	cfg    Config
	facts  Facts
	images Images
	cache  cache.Reader
	nodes  client.Client[corev1.Node]
	leases client.Client[coordinationv1.Lease]
	events events.Recorder
	log    *slog.Logger

	look    chan struct{} // of capacity 1: report now
	network atomic.Pointer[error]

	// Of Run's goroutine:
	written *corev1.Node // as we last wrote it
	at      time.Time    // when
	lease   *coordinationv1.Lease
}

// NewReporter makes a Reporter.
func NewReporter(cfg Config, f Facts, images Images, r cache.Reader, do client.Doer, rec events.Recorder, log *slog.Logger) *Reporter {
	return &Reporter{cfg: cfg, facts: f, images: images, cache: r, nodes: client.For[corev1.Node](do, "kubelet"),
		leases: client.For[coordinationv1.Lease](do, "kubelet"), events: rec, log: log,
		look: make(chan struct{}, 1)}
}

// SetNetwork says whether pods can have addresses, and has that reported: nil when they can, else why not. Until the first
// call they can.
func (r *Reporter) SetNetwork(err error) {
	r.network.Store(&err)
	select {
	case r.look <- struct{}{}:
	default:
	}
}

const (
	beat         = 10 * time.Second // between renewals of the lease
	leaseSeconds = 40
	statusEvery  = 5 * time.Minute
	writeTimeout = 10 * time.Second
	firstRetry   = 50 * time.Millisecond
	leaseSpace   = corev1.NamespaceNodeLease
)

// Run registers the node and keeps it alive until ctx ends. Failures are tried again: a node outlives its API server.
func (r *Reporter) Run(ctx context.Context) error {
	wait, ill := firstRetry, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		case <-r.look:
		}
		err := r.tick(ctx)
		switch {
		case err == nil:
			if ill {
				r.log.Info("the node is reported again")
			}
			wait, ill = firstRetry, false
			timer.Reset(beat)
			continue
		case errors.Is(err, errs.Conflict) && !ill: // somebody else wrote; the next look sees it
			timer.Reset(firstRetry)
			continue
		case ctx.Err() == nil && !ill:
			r.log.Warn("the node cannot be reported; it will be tried again", "err", err)
		}
		ill = true
		timer.Reset(wait)
		wait = min(2*wait, beat)
	}
}

// tick does what is due: the object, its status, the lease.
func (r *Reporter) tick(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	n, err := r.current(ctx)
	if err != nil {
		return err
	}
	if err := r.report(ctx, n); err != nil {
		r.written = nil // read anew: somebody else may have written
		return err
	}
	return r.renew(ctx)
}

// current is the node's object, made or completed if need be.
func (r *Reporter) current(ctx context.Context) (*corev1.Node, error) {
	n, ok := cache.Get[corev1.Node](r.cache.Snapshot(), "", r.cfg.Name)
	if r.written != nil && (!ok || n.ResourceVersion != r.written.ResourceVersion) || !ok {
		// The cache is behind our own write, or somebody else wrote, or it is not there at all.
		var err error
		if n, err = r.nodes.Get(ctx, "", r.cfg.Name); err != nil && !errors.Is(err, errs.NotFound) {
			return nil, err
		} else if err != nil {
			n = nil
		}
	}
	want := Desired(r.cfg, r.facts)
	if n == nil {
		out, err := r.nodes.Create(ctx, want)
		if err != nil {
			return nil, fmt.Errorf("register node %s: %w", r.cfg.Name, err)
		}
		r.written, r.at = nil, time.Time{}
		r.events.Event(out, corev1.EventTypeNormal, "Starting", "Starting kubelet.")
		return out, nil
	}
	return r.complete(ctx, n, want)
}

// complete adds the labels that the object lacks.
func (r *Reporter) complete(ctx context.Context, n, want *corev1.Node) (*corev1.Node, error) {
	labels := maps.Clone(n.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, want.Labels)
	if maps.Equal(labels, n.Labels) {
		return n, nil
	}
	c := n.DeepCopy()
	c.Labels = labels
	return r.nodes.Update(ctx, c)
}

// report writes the status if it says something new, or nothing was written for long.
func (r *Reporter) report(ctx context.Context, n *corev1.Node) error {
	h, err := health(r.cfg.DataDir)
	if err != nil {
		return err
	}
	images, err := r.images.ListImages(ctx)
	h.Runtime = err
	if n := r.network.Load(); n != nil {
		h.Network = *n
	}
	now := time.Now()
	st := Status(r.cfg, r.facts, h, images, &n.Status, now)
	if r.written != nil && now.Sub(r.at) < statusEvery && sameStatus(st, n.Status) {
		return nil
	}
	c := *n // shallow: only the status is ours
	c.Status = st
	out, err := r.nodes.UpdateStatus(ctx, &c)
	if err != nil {
		return fmt.Errorf("report the status of node %s: %w", r.cfg.Name, err)
	}
	r.tellChanges(out, &n.Status, &st)
	r.written, r.at = out, now
	return nil
}

// sameStatus compares but for the heartbeat.
func sameStatus(a, b corev1.NodeStatus) bool {
	a, b = *a.DeepCopy(), *b.DeepCopy()
	for _, st := range []*corev1.NodeStatus{&a, &b} {
		for i := range st.Conditions {
			st.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return equality.Semantic.DeepEqual(a, b)
}

// tellChanges makes an event of each condition that turned.
func (r *Reporter) tellChanges(n *corev1.Node, old, now *corev1.NodeStatus) {
	was := map[corev1.NodeConditionType]corev1.ConditionStatus{}
	for _, c := range old.Conditions {
		was[c.Type] = c.Status
	}
	for _, c := range now.Conditions {
		if was[c.Type] == c.Status {
			continue
		}
		reason := "Node" + c.Reason[min(len("Kubelet"), len(c.Reason)):]
		if c.Type == corev1.NodeReady {
			reason = map[bool]string{true: "NodeReady", false: "NodeNotReady"}[c.Status == corev1.ConditionTrue]
		}
		r.events.Event(n, corev1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", n.Name, reason))
	}
}

// renew says that the node lives.
func (r *Reporter) renew(ctx context.Context) error {
	now := metav1.NowMicro()
	if r.lease == nil {
		l, err := r.leases.Get(ctx, leaseSpace, r.cfg.Name)
		if errors.Is(err, errs.NotFound) {
			r.lease, err = r.leases.Create(ctx, r.newLease(now))
			return err
		}
		if err != nil {
			return err
		}
		r.lease = l
	}
	l := r.lease.DeepCopy()
	fresh := r.newLease(now)
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = fresh.Spec.HolderIdentity, fresh.Spec.LeaseDurationSeconds, &now
	if len(l.OwnerReferences) == 0 {
		l.OwnerReferences = fresh.OwnerReferences
	}
	out, err := r.leases.Update(ctx, l)
	if err != nil {
		r.lease = nil
		return fmt.Errorf("renew the lease of node %s: %w", r.cfg.Name, err)
	}
	r.lease = out
	return nil
}

func (r *Reporter) newLease(now metav1.MicroTime) *coordinationv1.Lease {
	seconds := int32(leaseSeconds)
	l := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: r.cfg.Name, Namespace: leaseSpace},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &r.cfg.Name, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
	if r.written != nil {
		l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: r.cfg.Name, UID: r.written.UID}}
	}
	return l
}
