// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/knarr/knarr/internal/backoff"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Selection is what ListWatch follows of one kind.
type Selection struct {
	Type      *kinds.Type
	Namespace string // "" for all
	Fields    string // a field selector: "spec.nodeName=node-1"
	Labels    string // a label selector
	// Single follows only the objects that Follow names, each with a watch of its own: what a node may read of Secrets.
	Single bool
}

// ListWatch is a cache.Source: it follows an API server over the ordinary list-watch protocol. Each kind is read by pages
// and then watched with bookmarks; a watch that ends goes on where it was, and one that is told 410 reads the kind anew,
// which the cache turns into the changes that were missed.
type ListWatch struct {
	http   *HTTP
	follow []Selection
	log    *slog.Logger
	mu     sync.Mutex // held while feeding
	single singles
}

var _ cache.Source = (*ListWatch)(nil)

// NewListWatch makes the source; the cache it feeds must hold the kinds of the selections, each once.
func NewListWatch(h *HTTP, follow []Selection, log *slog.Logger) *ListWatch {
	return &ListWatch{http: h, follow: follow, log: log}
}

const (
	listPage = 500
	// A watch is ended by the server after a random time between these, so that clients spread over its replicas.
	watchLeast, watchMost = 5 * time.Minute, 10 * time.Minute
	// A watch that lasted this long was no failure.
	settled = time.Second
)

// Progress does nothing: the protocol has no such request; bookmarks come by themselves.
func (l *ListWatch) Progress(context.Context) error { return nil }

// Run follows all kinds until ctx ends.
func (l *ListWatch) Run(ctx context.Context, feed func(cache.Batch)) error {
	var wg sync.WaitGroup
	locked := func(b cache.Batch) {
		l.mu.Lock()
		defer l.mu.Unlock()
		feed(b)
	}
	l.single.begin(ctx, &wg, locked)
	for _, s := range l.follow {
		if s.Single {
			// There is nothing to wait for: what is not followed is not there.
			locked(cache.Batch{Type: s.Type, Reset: true, Revision: 1})
			continue
		}
		wg.Go(func() { l.kind(ctx, s, locked) })
	}
	<-ctx.Done()
	l.single.end()
	wg.Wait()
	return context.Cause(ctx)
}

// kind follows one kind until ctx ends.
func (l *ListWatch) kind(ctx context.Context, s Selection, feed func(cache.Batch)) {
	log := l.log.With("kind", s.Type.Kind)
	pause := backoff.Pause{First: 50 * time.Millisecond, Max: 15 * time.Second}
	rev := ""
	for ctx.Err() == nil {
		var err error
		if rev == "" {
			rev, err = l.list(ctx, s, feed)
		}
		if err == nil {
			began := time.Now()
			rev, err = l.watch(ctx, s, rev, feed)
			if time.Since(began) > settled {
				pause.Reset()
			}
		}
		switch {
		case err == nil: // the server ended the watch in good order
		case ctx.Err() != nil:
			return
		case errors.Is(err, errs.Gone):
			log.Debug("the watch fell behind; reading the kind anew", "err", err)
			rev = ""
		default:
			log.Warn("follow the API server; trying again", "err", err)
		}
		if pause.Wait(ctx) != nil {
			return
		}
	}
}

func (s Selection) query() url.Values {
	q := url.Values{}
	if s.Fields != "" {
		q.Set("fieldSelector", s.Fields)
	}
	if s.Labels != "" {
		q.Set("labelSelector", s.Labels)
	}
	return q
}

// list reads all of a kind and returns the revision to watch from.
func (l *ListWatch) list(ctx context.Context, s Selection, feed func(cache.Batch)) (string, error) {
	batch := cache.Batch{Type: s.Type, Reset: true}
	q := s.query()
	q.Set("limit", strconv.Itoa(listPage))
	rev := ""
	for {
		page, err := l.page(ctx, s, q)
		if err != nil {
			return "", err
		}
		items, err := meta.ExtractList(page)
		if err != nil {
			return "", fmt.Errorf("list %s: %w", s.Type.Plural, err)
		}
		for _, item := range items {
			u, err := update(s.Type, item, false)
			if err != nil {
				return "", fmt.Errorf("list %s: %w", s.Type.Plural, err)
			}
			batch.Updates = append(batch.Updates, u)
		}
		m, err := meta.ListAccessor(page)
		if err != nil {
			return "", fmt.Errorf("list %s: %w", s.Type.Plural, err)
		}
		rev = m.GetResourceVersion()
		if m.GetContinue() == "" {
			break
		}
		q.Set("continue", m.GetContinue())
	}
	n, err := strconv.ParseInt(rev, 10, 64)
	if err != nil {
		return "", errs.New(errs.Invalid, "list %s: resourceVersion %q is no number", s.Type.Plural, rev)
	}
	batch.Revision = n
	feed(batch)
	return rev, nil
}

func (l *ListWatch) page(ctx context.Context, s Selection, q url.Values) (object, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	resp, err := l.http.open(ctx, http.MethodGet, collection(s.Type, s.Namespace), q, nil, "", l.http.accept())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := readAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return decode(b)
}

// watch follows a kind from rev on; it returns how far it came. A nil error: ask again from there.
func (l *ListWatch) watch(ctx context.Context, s Selection, rev string, feed func(cache.Batch)) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := s.query()
	q.Set("watch", "true")
	q.Set("allowWatchBookmarks", "true")
	q.Set("resourceVersion", rev)
	q.Set("timeoutSeconds", strconv.Itoa(int((watchLeast + rand.N(watchMost-watchLeast)).Seconds())))
	accept := jsonType
	if !l.http.cfg.JSON {
		accept = protobufType + ";stream=watch," + jsonType
	}
	resp, err := l.http.open(ctx, http.MethodGet, collection(s.Type, s.Namespace), q, nil, "", accept)
	if err != nil {
		return rev, err
	}
	defer resp.Body.Close()
	for e, err := range events(resp) {
		if err != nil {
			return rev, err
		}
		b, next, err := batchOf(s.Type, e)
		if err != nil {
			return rev, fmt.Errorf("watch %s: %w", s.Type.Plural, err)
		}
		feed(b)
		rev = next
	}
	return rev, nil
}
