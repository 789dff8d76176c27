// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/knarr/knarr/internal/backoff"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/store"
)

// root is the folder of the store that holds all objects.
const root = "/registry/"

// Definer says what an object of a kind whose objects define kinds (CustomResourceDefinition) defines.
type Definer struct {
	Type *kinds.Type
	// Define returns have when nothing changed, and nil for what defines nothing (yet). o is shared and read-only.
	Define func(o kinds.Object, have *kinds.Definition) *kinds.Definition
}

// FromStore is the Source that reads the store itself: one range and then one watch over all kinds. With a definer it
// also follows the kinds that are defined while it runs: they are in the snapshot in which their definition is.
func FromStore(s store.Store, types []*kinds.Type, d *Definer, log *slog.Logger) Source {
	f := folders{}
	for _, t := range types {
		f[t.Prefix()] = t
	}
	return &storeSource{store: s, folders: f, definer: d, defined: map[string]*kinds.Definition{}, log: log}
}

type storeSource struct {
	store   store.Store
	folders folders
	definer *Definer
	defined map[string]*kinds.Definition // by the name of what defines them
	log     *slog.Logger
}

func (s *storeSource) Progress(ctx context.Context) error { return s.store.Progress(ctx) }

// Run reads and follows; when the watch is lost it begins anew, which the cache turns into the changes that were missed.
func (s *storeSource) Run(ctx context.Context, feed func(Batch)) error {
	pause := backoff.Pause{First: 10 * time.Millisecond, Max: 10 * time.Second}
	for {
		followed, err := s.follow(ctx, feed)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if followed {
			pause.Reset()
		}
		s.log.Warn("the watch of the store ended; reading it anew", "err", err)
		if err := pause.Wait(ctx); err != nil {
			return err
		}
	}
}

// pageSize bounds how much of the store is in memory twice while it is read.
const pageSize = 500

func (s *storeSource) follow(ctx context.Context, feed func(Batch)) (bool, error) {
	all, err := s.load(ctx)
	if err != nil {
		return false, err
	}
	feed(all)
	batches, why, err := s.store.Watch(ctx, root, all.Revision)
	if err != nil {
		return true, err
	}
	for b := range batches {
		out := Batch{Revision: b.Revision}
		for i := range b.Events {
			if u, ok := s.update(&b.Events[i].KV, b.Events[i].Delete); ok {
				out.Updates = append(out.Updates, u)
			}
		}
		if err := s.redefine(ctx, &out); err != nil {
			return true, err
		}
		feed(out)
	}
	return true, why()
}

// redefine sees to the definitions among the updates: the objects of the kinds concerned are read as they are at the
// batch's revision.
func (s *storeSource) redefine(ctx context.Context, b *Batch) error {
	for i := range b.Updates {
		if u := &b.Updates[i]; s.definer != nil && u.Type == s.definer.Type {
			b.Define = append(b.Define, s.define(u)...)
		}
	}
	if len(b.Define) == 0 {
		return nil
	}
	anew := map[string]bool{}
	for _, d := range b.Define {
		anew[d.Folder] = true
	}
	b.Updates = slices.DeleteFunc(b.Updates, func(u Update) bool { return anew[u.Type.Prefix()] })
	for folder := range anew {
		if s.folders[folder] == nil {
			continue
		}
		all, err := s.read(ctx, folder, b.Revision)
		if err != nil {
			return err
		}
		b.Updates = append(b.Updates, all.Updates...)
	}
	return nil
}

// define follows one definition.
func (s *storeSource) define(u *Update) []Redefinition {
	have := s.defined[u.Name]
	var now *kinds.Definition
	if u.Object != nil {
		now = s.definer.Define(u.Object, have)
	}
	if now == have {
		return nil
	}
	var out []Redefinition
	if have != nil {
		delete(s.defined, u.Name)
		delete(s.folders, have.Versions[0].Prefix())
		out = append(out, Redefinition{Folder: have.Versions[0].Prefix()})
	}
	if now == nil {
		return out
	}
	folder := now.Versions[0].Prefix()
	if s.folders[folder] != nil {
		s.log.Error("a definition wants the place of another kind; it is left aside", "name", u.Name)
		return out
	}
	s.defined[u.Name], s.folders[folder] = now, now.Versions[0]
	if len(out) > 0 && out[0].Folder == folder {
		out = nil // it goes on
	}
	return append(out, Redefinition{Folder: folder, Definition: now})
}

// load reads everything, the definitions first: they say what the rest is.
func (s *storeSource) load(ctx context.Context) (Batch, error) {
	b := Batch{Reset: true}
	if s.definer != nil {
		defs, err := s.read(ctx, s.definer.Type.Prefix(), 0)
		if err != nil {
			return b, err
		}
		had := maps.Clone(s.defined)
		for i := range defs.Updates {
			delete(had, defs.Updates[i].Name)
			b.Define = append(b.Define, s.define(&defs.Updates[i])...)
		}
		for name := range had {
			b.Define = append(b.Define, s.define(&Update{Name: name})...)
		}
		b.Revision = defs.Revision
	}
	all, err := s.read(ctx, root, b.Revision)
	b.Updates, b.Revision = all.Updates, all.Revision
	return b, err
}

// read lists what is below prefix at a revision; 0: now.
func (s *storeSource) read(ctx context.Context, prefix string, rev int64) (Batch, error) {
	b := Batch{}
	o := store.RangeOptions{Limit: pageSize, Revision: rev}
	for {
		page, err := s.store.Range(ctx, prefix, o)
		if err != nil {
			return b, err
		}
		for i := range page.KVs {
			if u, ok := s.update(&page.KVs[i], false); ok {
				b.Updates = append(b.Updates, u)
			}
		}
		if rev == 0 {
			rev = page.Revision
		}
		b.Revision = rev
		if !page.More {
			return b, nil
		}
		o.Revision = rev
		o.From = page.KVs[len(page.KVs)-1].Key + "\x00"
	}
}

// update decodes one key. What is of no known kind, or not decodable, is left out: the second is said aloud.
func (s *storeSource) update(kv *store.KV, deleted bool) (Update, bool) {
	t, ns, name, ok := s.folders.parse(kv.Key)
	if !ok {
		return Update{}, false
	}
	u := Update{Type: t, Namespace: ns, Name: name, Revision: kv.ModRevision, CreateRevision: kv.CreateRevision}
	if deleted {
		return u, true
	}
	obj, err := Decode(t, kv.Value)
	if err != nil {
		s.log.Error("an object in the store cannot be read; it is treated as absent", "key", kv.Key, "err", err)
		return u, true
	}
	u.Object = obj
	u.Type = kinds.Of(obj)
	return u, true
}
