// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// CommitOptions describe the image that CommitSnapshot makes.
type CommitOptions struct {
	Config    *ContainerConfig // nil: the parent's
	Spec      *Spec            // in place of Config: the whole config, to which RootFS, Created and a history entry are added
	Author    string
	Message   string     // history comment
	CreatedBy string     // history created_by
	Name      string     // "" for none
	Cache     bool       // a build step's result
	Created   *time.Time // nil: now
	// Consume moves the read-write layer into the image instead of copying it. The snapshot must be unmounted, and is gone after.
	Consume bool
}

// PutOptions describe an image that Put makes from layers the store already has.
type PutOptions struct {
	Base   Image    // its layers are taken; the zero Image has none
	Config Spec     // RootFS is filled in, platform and date too if empty
	Names  []string // given to the new image
	Parent digest.Digest
	Cache  bool
}

// Put stores an image with the layers of o.Base and another config.
func (s *Store) Put(ctx context.Context, o PutOptions) (Image, error) {
	for _, n := range o.Names {
		if _, err := parseTag(n); err != nil {
			return Image{}, err
		}
	}
	h := s.newHold()
	defer h.release()
	if err := s.holdChain(h, "", o.Base, chainIDs(o.Base.Layers)); err != nil {
		return Image{}, err
	}
	return s.put(o.Config, o.Base.Layers, imageRecord{Local: true, Cache: o.Cache, Parent: o.Parent}, o.Names)
}

// put encodes a config over layers that are in the store and held.
func (s *Store) put(sp Spec, diffIDs []digest.Digest, rec imageRecord, names []string) (Image, error) {
	sp.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: diffIDs}
	if diffIDs == nil {
		sp.RootFS.DiffIDs = []digest.Digest{}
	}
	if sp.OS == "" {
		sp.OS, sp.Architecture = "linux", runtime.GOARCH
	}
	if sp.Created == nil {
		now := time.Now().UTC()
		sp.Created = &now
	}
	data, err := json.Marshal(sp)
	if err != nil {
		return Image{}, fmt.Errorf("encode image config: %w", err)
	}
	return s.addImage(data, rec, names)
}

// CommitSnapshot makes an image of the snapshot's image plus its read-write layer; the init layer is left out.
func (s *Store) CommitSnapshot(ctx context.Context, key string, o CommitOptions) (Image, error) {
	img, err := s.commit(ctx, key, o)
	if err != nil {
		return Image{}, fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	if o.Consume {
		return img, s.RemoveSnapshot(key)
	}
	return img, nil
}

func (s *Store) commit(ctx context.Context, key string, o CommitOptions) (Image, error) {
	if o.Name != "" {
		if _, err := parseTag(o.Name); err != nil {
			return Image{}, err
		}
	}
	rec, err := s.findSnapshot(key)
	if err != nil {
		return Image{}, err
	}
	sp, diffIDs, err := s.snapshotBase(rec)
	if err != nil {
		return Image{}, err
	}
	h := s.newHold()
	defer h.release()
	diffID, err := s.commitLayer(ctx, h, rec, o.Consume)
	if err != nil {
		return Image{}, err
	}
	if o.Spec != nil {
		sp = *o.Spec
	}
	now := time.Now().UTC()
	if o.Created != nil {
		now = *o.Created
	}
	sp.Created = &now
	if o.Author != "" || o.Spec == nil {
		sp.Author = o.Author
	}
	if o.Config != nil {
		sp.Config = *o.Config
	}
	sp.History = append(slices.Clone(sp.History), ocispec.History{Created: &now, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Message, EmptyLayer: diffID == ""})
	if diffID != "" {
		diffIDs = append(slices.Clone(diffIDs), diffID)
	}
	var names []string
	if o.Name != "" {
		names = []string{o.Name}
	}
	return s.put(sp, diffIDs, imageRecord{Local: true, Cache: o.Cache, Parent: rec.Image}, names)
}

// snapshotBase is what a commit starts from. The image may have been removed since; its layers have not.
func (s *Store) snapshotBase(rec *snapshotRecord) (Spec, []digest.Digest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if img := s.images[rec.Image]; img != nil {
		return img.Config, img.Layers, nil
	}
	var diffIDs []digest.Digest
	for _, c := range rec.Chain {
		l := s.layers[c]
		if l == nil {
			return Spec{}, nil, fmt.Errorf("layer %s is not in the store", c)
		}
		diffIDs = append(diffIDs, l.DiffID)
	}
	return Spec{}, diffIDs, nil
}

// commitLayer makes a layer of the read-write directory and holds it; "" if nothing was changed.
func (s *Store) commitLayer(ctx context.Context, h *hold, rec *snapshotRecord, consume bool) (digest.Digest, error) {
	rw, err := inroot.Open(s.snapshot(rec).RW)
	if err != nil {
		return "", err
	}
	defer rw.Close()
	names, err := layer.ReadNames(rw)
	if err != nil || len(names) == 0 {
		return "", err
	}
	tmp, err := s.temp("layer")
	if err != nil {
		return "", err
	}
	defer s.discard(tmp)
	rl := layerRecord{Version: formatVersion, Parent: lastOf(rec.Chain), Format: layer.Format}
	if consume {
		err = s.moveLayer(ctx, rw, rec, tmp, &rl)
	} else {
		err = s.copyLayer(ctx, rw, rec, tmp, &rl)
	}
	if err != nil {
		return "", err
	}
	rl.ChainID = chainID(rl.Parent, rl.DiffID)
	release, err := s.once(ctx, rl.ChainID)
	if err != nil {
		return "", err
	}
	defer release()
	h.lockAdd(rl.ChainID)
	if s.hasLayer(rl.ChainID) {
		return rl.DiffID, nil
	}
	return rl.DiffID, s.placeLayer(tmp, rl)
}

// moveLayer takes the directory itself; its digest is that of the tar it would make.
func (s *Store) moveLayer(ctx context.Context, rw *inroot.Dir, rec *snapshotRecord, tmp string, rl *layerRecord) error {
	for _, n := range rec.Init {
		if err := rw.RemoveAll(n); err != nil {
			return err
		}
	}
	hash := &countWriter{hash: digest.SHA256.Digester()}
	if err := layer.Pack(ctx, rw, hash, layer.PackOptions{Whiteouts: true}); err != nil {
		return err
	}
	rl.DiffID, rl.TarSize = hash.hash.Digest(), hash.n
	var err error
	if rl.Size, err = regularBytes(rw.HostPath()); err != nil {
		return err
	}
	return os.Rename(rw.HostPath(), filepath.Join(tmp, "fs"))
}

// copyLayer goes through the tar, so that a container that keeps writing cannot make digest and content differ.
func (s *Store) copyLayer(ctx context.Context, rw *inroot.Dir, rec *snapshotRecord, tmp string, rl *layerRecord) error {
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := layer.Pack(ctx, rw, pw, layer.PackOptions{Whiteouts: true, Skip: initSkip(rec)})
		pw.CloseWithError(err)
		done <- err
	}()
	tee := &teeReader{r: pr, hash: digest.SHA256.Digester()}
	var err error
	rl.Size, err = s.unpackInto(ctx, tmp, rec.Chain, tee)
	pr.CloseWithError(errors.New("unpacking ended"))
	packErr := <-done
	rl.DiffID, rl.TarSize = tee.hash.Digest(), tee.n
	if err != nil {
		return err
	}
	return packErr
}

type countWriter struct {
	hash digest.Digester
	n    int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.hash.Hash().Write(p)
}

// ImportOptions describe the image that Import makes.
type ImportOptions struct {
	Name     string // "" for none
	Message  string
	Platform string // "" for this machine's
	Config   ContainerConfig
}

// Import makes an image of one layer from the tar of a root file system, plain or compressed.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (Image, error) {
	if o.Name != "" {
		if _, err := parseTag(o.Name); err != nil {
			return Image{}, err
		}
	}
	now := time.Now().UTC()
	sp := Spec{Config: o.Config}
	sp.Created = &now
	sp.History = []ocispec.History{{Created: &now, Comment: o.Message}}
	var err error
	if sp.Platform, err = parsePlatform(o.Platform); err != nil {
		return Image{}, err
	}
	h := s.newHold()
	defer h.release()
	rl, err := s.importLayer(ctx, h, r)
	if err != nil {
		return Image{}, fmt.Errorf("import: %w", err)
	}
	var names []string
	if o.Name != "" {
		names = []string{o.Name}
	}
	return s.put(sp, []digest.Digest{rl.DiffID}, imageRecord{Local: true}, names)
}

// importLayer unpacks a foreign tar; its diffID is that of the tar we would write, so nothing but the directory is kept.
func (s *Store) importLayer(ctx context.Context, h *hold, r io.Reader) (layerRecord, error) {
	rl := layerRecord{Version: formatVersion, Format: layer.Format}
	tmp, err := s.temp("layer")
	if err != nil {
		return rl, err
	}
	defer s.discard(tmp)
	plain, _, err := layer.Decompress(ctxReader{ctx, r})
	if err != nil {
		return rl, err
	}
	defer plain.Close()
	if rl.Size, err = s.unpackInto(ctx, tmp, nil, &teeReader{r: plain, hash: digest.SHA256.Digester()}); err != nil {
		return rl, err
	}
	root, err := inroot.Open(filepath.Join(tmp, "fs"))
	if err != nil {
		return rl, err
	}
	defer root.Close()
	if names, err := layer.ReadNames(root); err != nil || len(names) == 0 {
		return rl, errors.Join(err, errs.New(errs.Invalid, "the archive is empty"))
	}
	hash := &countWriter{hash: digest.SHA256.Digester()}
	if err := layer.Pack(ctx, root, hash, layer.PackOptions{Whiteouts: true}); err != nil {
		return rl, err
	}
	rl.DiffID, rl.TarSize = hash.hash.Digest(), hash.n
	rl.ChainID = rl.DiffID
	h.lockAdd(rl.ChainID)
	return rl, s.placeLayer(tmp, rl)
}
