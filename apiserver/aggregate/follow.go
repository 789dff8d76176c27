// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// How often a server is looked at: one that answers as upstream does, one that does not sooner and sooner less.
const (
	lookAgain   = 30 * time.Second
	firstRetry  = 500 * time.Millisecond
	patience    = 2 // failed looks before a server that answered is called unavailable
	patientWait = 500 * time.Millisecond
)

// follow looks at one APIService until ctx ends.
func (s *Servers) follow(ctx context.Context, name string, uid types.UID, kick chan struct{}) {
	defer s.publish(name, nil)
	retry := firstRetry
	failures := 0
	for ctx.Err() == nil {
		now := s.cfg.State.Snapshot()
		a, ok := cache.Get[apiregistrationv1.APIService](now, "", name)
		if !ok || a.UID != uid || a.Spec.Service == nil {
			return
		}
		watched, stop := context.WithCancel(ctx)
		go s.wake(watched, kick, kinds.For[corev1.Service](), a.Spec.Service, now.Revision())
		go s.wake(watched, kick, kinds.For[discoveryv1.EndpointSlice](), a.Spec.Service, now.Revision())
		next := s.look(ctx, now, a, s.last(name))
		wait := lookAgain
		switch {
		case next.Available():
			retry, failures = firstRetry, 0
		case next.Condition.Reason == failedDiscovery && failures < patience && s.was(name):
			// One lost answer is no news.
			failures++
			next, wait = s.last(name), patientWait
		default:
			wait, retry = retry, min(2*retry, lookAgain)
		}
		if ctx.Err() == nil {
			s.publish(name, next)
			if err := s.tell(ctx, a, next.Condition); err != nil && !errors.Is(err, errs.NotFound) {
				if !errors.Is(err, errs.Conflict) && ctx.Err() == nil {
					s.cfg.Log.Warn("write whether an aggregated API server is available", "apiservice", name, "err", err)
				}
				wait = min(wait, firstRetry)
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-kick:
		case <-ctx.Done():
		}
		t.Stop()
		stop()
	}
}

// last is what was published of an APIService, nil if nothing was.
func (s *Servers) last(name string) *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[name]
}

func (s *Servers) was(name string) bool {
	k := s.last(name)
	return k != nil && k.Available()
}

// wake kicks when the Service, or what is behind it, changes.
func (s *Servers) wake(ctx context.Context, kick chan struct{}, t *kinds.Type, of *apiregistrationv1.ServiceReference, from int64) {
	for change, err := range s.cfg.State.Watch(ctx, t, from) {
		if err != nil {
			poke(kick) // fell behind
			return
		}
		e := change.Entry()
		if e == nil || e.Object.GetNamespace() != of.Namespace {
			continue
		}
		name := e.Object.GetName()
		if slice, ok := e.Object.(*discoveryv1.EndpointSlice); ok {
			name = slice.Labels[discoveryv1.LabelServiceName]
		}
		if name == of.Name {
			poke(kick)
		}
	}
}

// look finds out what there is to know.
func (s *Servers) look(ctx context.Context, now *cache.Snapshot, a *apiregistrationv1.APIService, last *Server) *Server {
	next := &Server{GroupVersion: groupVersion(a), Priority: a.Spec.GroupPriorityMinimum, of: a}
	if last != nil {
		next.Resources, next.Documents = last.Resources, last.Documents
	}
	var err error
	if next.reach, err = s.connect(a, last); err != nil {
		next.Condition = unavailable("InvalidCABundle", err.Error())
		return next
	}
	if next.Condition = locate(now, a); !next.Available() {
		return next
	}
	if err := s.ask(ctx, next); err != nil {
		next.Condition = unavailable(failedDiscovery, "failing or missing response from "+next.address("")+": "+err.Error())
	}
	return next
}

func unavailable(reason, message string) apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionFalse, Reason: reason, Message: message}
}

// tell writes the condition, unless it is there already.
func (s *Servers) tell(ctx context.Context, a *apiregistrationv1.APIService, c apiregistrationv1.APIServiceCondition) error {
	next := with(a, c, s.cfg.Now())
	if equality.Semantic.DeepEqual(next.Status, a.Status) {
		return nil
	}
	_, err := s.cfg.API.Do(ctx, client.Request{Verb: client.Update, Type: kinds.Of(a), Name: a.Name, Subresource: "status", Object: next})
	return err
}

// with is a with a condition; the others stay.
func with(a *apiregistrationv1.APIService, c apiregistrationv1.APIServiceCondition, now time.Time) *apiregistrationv1.APIService {
	next := a.DeepCopy()
	c.LastTransitionTime = metav1.NewTime(now).Rfc3339Copy()
	for i := range next.Status.Conditions {
		have := &next.Status.Conditions[i]
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		*have = c
		return next
	}
	next.Status.Conditions = append(next.Status.Conditions, c)
	return next
}
