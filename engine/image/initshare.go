// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// An init layer is a lower layer that nobody writes to, and the replicas of one image all want the same. It is made once and
// shared: its dozen of files and folders cost more than the rest of a snapshot, when they are made and again when they go.

// idleInits is how many init layers without a snapshot are kept for the next container of their kind.
const idleInits = 32

// initLayer is inits/<name>-init. Its key says what is in it; after a restart that is not known any more, and it is only kept as
// long as its snapshots: what was not synced, a power cut may have torn.
type initLayer struct {
	name  string
	key   string
	skip  []string // files whose changes are never committed
	users int      // snapshots, also those that are being made
}

func initKey(chain []digest.Digest, f InitFiles) string {
	f.Volatile = false
	text, _ := json.Marshal(struct { // strings and bytes always encode
		Chain []digest.Digest
		Files InitFiles
	}{chain, f})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// useInit finds or makes the init layer and counts the caller as a user; freeInit gives it back.
func (s *Store) useInit(ctx context.Context, chain []digest.Digest, f InitFiles) (*initLayer, error) {
	key := initKey(chain, f)
	release, err := s.once(ctx, digest.Digest("init:"+key))
	if err != nil {
		return nil, err
	}
	defer release()
	s.mu.Lock()
	for _, l := range s.inits {
		if l.key == key {
			l.users++
			s.idle = slices.DeleteFunc(s.idle, func(name string) bool { return name == l.name })
			s.mu.Unlock()
			return l, nil
		}
	}
	s.mu.Unlock()
	l := &initLayer{name: key[:32] + "-" + rand.Text()[:8], key: key, users: 1}
	if err := s.newInit(l, chain, f); err != nil {
		return nil, fmt.Errorf("init layer: %w", err)
	}
	return l, nil
}

func (s *Store) newInit(l *initLayer, chain []digest.Digest, f InitFiles) error {
	tmp, err := s.temp("init")
	if err != nil {
		return err
	}
	defer s.discard(tmp)
	diff := filepath.Join(tmp, initDiff)
	if err := mkdirMode(diff, 0o755); err != nil {
		return err
	}
	if err := s.copyRootAttributes(chain, diff); err != nil {
		return err
	}
	if !f.None {
		if l.skip, err = s.writeInit(diff, chain, f); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Rename(tmp, s.initHome(l.name)); err != nil {
		return err
	}
	s.inits[l.name] = l
	return nil
}

// An init layer's folder is inits/<name>-init, and what is mounted of it is diff in that: the names that people know from
// Docker's LowerDir.
const (
	initSuffix = "-init"
	initDiff   = "diff"
)

func (s *Store) initHome(name string) string { return s.path(initsDir, name+initSuffix) }
func (s *Store) initDir(name string) string  { return filepath.Join(s.initHome(name), initDiff) }

// freeInit takes one user off. Layers that nobody uses are kept up to a bound, the newest of them.
func (s *Store) freeInit(name string) {
	s.mu.Lock()
	var gone []string
	if l := s.inits[name]; l != nil {
		if l.users--; l.users == 0 && l.key != "" {
			s.idle = append(s.idle, name)
		} else if l.users == 0 {
			gone = append(gone, name)
		}
	}
	for len(s.idle) > idleInits {
		gone, s.idle = append(gone, s.idle[0]), s.idle[1:]
	}
	for _, name := range gone {
		delete(s.inits, name)
		s.discardLater(s.initHome(name))
	}
	s.mu.Unlock()
}

// sweepInits removes the init layers that no snapshot of the last run uses.
func (s *Store) sweepInits() error {
	for _, rec := range s.snaps {
		if rec.InitLayer == "" {
			continue
		}
		l := s.inits[rec.InitLayer]
		if l == nil {
			l = &initLayer{name: rec.InitLayer, skip: rec.Init}
			s.inits[l.name] = l
		}
		l.users++
	}
	entries, err := os.ReadDir(s.path(initsDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name, whole := strings.CutSuffix(e.Name(), initSuffix); !whole || s.inits[name] == nil {
			s.discardLater(s.path(initsDir, e.Name()))
		}
	}
	return nil
}
