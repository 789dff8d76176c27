// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// services is the proxy's and dns' view of the cluster: what the cache has of a few kinds, and a token after each change.
type services struct {
	reader  cache.Reader
	kinds   []*kinds.Type
	changed chan struct{}
}

func newServices(r cache.Reader) *services {
	return &services{
		reader: r, changed: make(chan struct{}, 1),
		kinds: []*kinds.Type{kinds.For[corev1.Service](), kinds.For[discoveryv1.EndpointSlice]()},
	}
}

// Changed delivers a token after changes; several may be one.
func (s *services) Changed() <-chan struct{} { return s.changed }

// Snapshot is all services and endpoint slices of one revision.
func (s *services) Snapshot() ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	snap := s.reader.Snapshot()
	return slices.Collect(all[corev1.Service](snap)), slices.Collect(all[discoveryv1.EndpointSlice](snap))
}

func all[T any](s *cache.Snapshot) iter.Seq[*T] { return cache.List[T](s, "") }

// run follows the kinds until ctx ends.
func (s *services) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range s.kinds {
		g.Go(func() error {
			for {
				from := s.reader.Snapshot().RevisionOf(t)
				s.poke()
				for change, err := range s.reader.Watch(ctx, t, from) {
					if errors.Is(err, errs.Gone) { // too far behind: what counts is the newest state anyway
						break
					}
					if err != nil {
						return ignore(err, context.Canceled)
					}
					if change.Old != nil || change.New != nil {
						s.poke()
					}
				}
				if ctx.Err() != nil {
					return nil
				}
			}
		})
	}
	return g.Wait()
}

func (s *services) poke() {
	select {
	case s.changed <- struct{}{}:
	default: // a token is waiting already
	}
}
