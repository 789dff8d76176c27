// SPDX-License-Identifier: Apache-2.0

// Package aggregate follows the API servers that answer some groups and versions in place of this one (APIService with
// spec.service): whether they can be reached, what they serve, and how to connect to them.
//
// Servers owns that knowledge; each APIService that names a Service has one goroutine (follow) which looks at the Service,
// asks the server for its resources and documents, publishes a new List and writes the condition Available. A List and the
// Servers in it never change. It also has the controller that registers what this server itself answers (locals.go).
//
// It hands no requests on: package apiserver does, with the Transport of a Server. What a server answers is a stranger's
// word: bounded, never followed elsewhere, and shown this server's front proxy certificate alone.
//
//	aggregate.go  Servers: who is followed, and what is known
//	follow.go     one server's life
//	locate.go     from an APIService to an address, or the reason why not (pure)
//	ask.go        what a server serves
//	reach.go      connections
//	locals.go     the groups and versions of this server
package aggregate

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// Config is what Servers works with.
type Config struct {
	State *cache.Cache
	API   client.Doer // writes conditions
	// Resolve finds an address where a Service's port is served.
	Resolve func(namespace, service string, port int32) (hostPort string, err error)
	// Dial connects to it, and refuses addresses that no Service may have.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Certificate is what this server shows when it speaks for users.
	Certificate func() (*tls.Certificate, error)
	Now         func() time.Time
	Log         *slog.Logger
}

// Server is one group and version that another API server answers, as of the last look.
type Server struct {
	GroupVersion schema.GroupVersion
	Priority     int32 // of the group
	Condition    apiregistrationv1.APIServiceCondition
	Resources    []metav1.APIResource // as last told
	Documents    Documents            // as last told

	of    *apiregistrationv1.APIService
	reach *reach
}

// Documents are a server's OpenAPI documents for its group and version; empty where it has none.
type Documents struct {
	V2   []byte // JSON, only what concerns the group and version
	Hash string // of its version 3 document

	etag string // of the whole of version 2
}

// Available: requests are handed on.
func (s *Server) Available() bool { return s.Condition.Status == apiregistrationv1.ConditionTrue }

// List is what is known at one time, ascending by group and version.
type List struct {
	All []*Server
	by  map[schema.GroupVersion]*Server
}

// Find is the server of a request's path, nil when it is this one.
func (l *List) Find(path string) *Server {
	if len(l.All) == 0 {
		return nil
	}
	rest, ok := strings.CutPrefix(path, "/apis/")
	if !ok {
		return nil
	}
	group, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return nil
	}
	version, _, _ := strings.Cut(rest, "/")
	return l.by[schema.GroupVersion{Group: group, Version: version}]
}

// Servers knows the aggregated API servers. Make it with New. Safe for concurrent use.
type Servers struct {
	cfg  Config
	list atomic.Pointer[List]

	mu    sync.Mutex // guards known, and that lists follow each other in order
	known map[string]*Server
}

// New makes one that knows nothing yet; it starts nothing.
func New(cfg Config) *Servers {
	s := &Servers{cfg: cfg, known: map[string]*Server{}}
	s.list.Store(&List{})
	return s
}

// List is what is known now.
func (s *Servers) List() *List { return s.list.Load() }

// publish makes next what is known of an APIService; nil: it is gone, or answered here.
func (s *Servers) publish(name string, next *Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next == nil {
		delete(s.known, name)
	} else {
		s.known[name] = next
	}
	l := &List{by: map[schema.GroupVersion]*Server{}}
	for _, k := range s.known {
		l.All = append(l.All, k)
		l.by[k.GroupVersion] = k
	}
	slices.SortFunc(l.All, func(a, b *Server) int { return strings.Compare(a.GroupVersion.String(), b.GroupVersion.String()) })
	s.list.Store(l)
}

// Run follows all APIServices that name a Service until ctx ends.
func (s *Servers) Run(ctx context.Context) error {
	select {
	case <-s.cfg.State.Ready():
	case <-ctx.Done():
		return nil
	}
	followed := map[types.UID]*following{}
	var running sync.WaitGroup
	defer running.Wait()
	t := kinds.For[apiregistrationv1.APIService]()
	for ctx.Err() == nil {
		now := s.cfg.State.Snapshot()
		s.sync(ctx, now, followed, &running)
		for change, err := range s.cfg.State.Watch(ctx, t, now.Revision()) {
			if err != nil {
				break // fell behind: everything is looked at anew
			}
			if change.Entry() != nil {
				s.sync(ctx, s.cfg.State.Snapshot(), followed, &running)
			}
		}
	}
	return nil
}

// following is the goroutine of one APIService.
type following struct {
	stop context.CancelFunc
	kick chan struct{} // look again now
	spec *apiregistrationv1.APIServiceSpec
}

// sync starts and ends goroutines, and wakes those whose APIService says something else.
func (s *Servers) sync(ctx context.Context, now *cache.Snapshot, followed map[types.UID]*following, running *sync.WaitGroup) {
	wanted := map[types.UID]bool{}
	for a := range cache.List[apiregistrationv1.APIService](now, "") {
		if a.Spec.Service == nil {
			continue
		}
		wanted[a.UID] = true
		if f := followed[a.UID]; f != nil {
			if !same(f.spec, &a.Spec) {
				f.spec = &a.Spec
				poke(f.kick)
			}
			continue
		}
		own, stop := context.WithCancel(ctx)
		f := &following{stop: stop, kick: make(chan struct{}, 1), spec: &a.Spec}
		followed[a.UID] = f
		running.Go(func() { s.follow(own, a.Name, a.UID, f.kick) })
	}
	for uid, f := range followed {
		if !wanted[uid] {
			f.stop()
			delete(followed, uid)
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
