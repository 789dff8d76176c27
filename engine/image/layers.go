// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// layerRecord is layers/<chainID>/layer.json.
type layerRecord struct {
	Version int           `json:"version"`
	ChainID digest.Digest `json:"chainID"`
	DiffID  digest.Digest `json:"diffID"`
	Parent  digest.Digest `json:"parent,omitempty"` // chainID of the layers below
	Size    int64         `json:"size"`             // bytes of regular files
	TarSize int64         `json:"tarSize"`          // bytes of the plain tar
	Blob    *blobRef      `json:"blob,omitempty"`   // the tar as it came; nil: packed again from fs when wanted
	Format  int           `json:"format,omitempty"` // layer.Format of the writer, if Blob is nil
}

// chainIDs are the identities of the stacks that diffIDs make, bottom first.
func chainIDs(diffIDs []digest.Digest) []digest.Digest {
	out := append([]digest.Digest(nil), diffIDs...)
	return identity.ChainIDs(out)
}

func chainID(parent, diffID digest.Digest) digest.Digest {
	if parent == "" {
		return diffID
	}
	return identity.ChainID([]digest.Digest{parent, diffID})
}

func (s *Store) layerFS(chain digest.Digest) string { return s.path(layersDir, chain.Encoded(), "fs") }

// layerSource is where a layer that is to be unpacked comes from.
type layerSource struct {
	diffID digest.Digest                 // "" if not known before
	open   func() (io.ReadCloser, error) // the tar, maybe compressed
	blob   *blobRef                      // set if open's bytes are a blob of the store already
}

// ensureLayer makes the layer on top of below (chainIDs, bottom first) unless the store has it, and holds it.
func (s *Store) ensureLayer(ctx context.Context, h *hold, below []digest.Digest, src layerSource) (digest.Digest, error) {
	if err := checkDigest(src.diffID); err != nil {
		return "", fmt.Errorf("layer: %w", err)
	}
	id := chainID(lastOf(below), src.diffID)
	release, err := s.once(ctx, id)
	if err != nil {
		return "", err
	}
	defer release()
	h.lockAdd(id)
	if s.hasLayer(id) {
		return id, nil
	}
	if err := s.unpackLayer(ctx, h, id, below, src); err != nil {
		return "", fmt.Errorf("unpack layer %s: %w", src.diffID, err)
	}
	return id, nil
}

func lastOf(chain []digest.Digest) digest.Digest {
	if len(chain) == 0 {
		return ""
	}
	return chain[len(chain)-1]
}

func (s *Store) hasLayer(chain digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.layers[chain] != nil
}

func (s *Store) unpackLayer(ctx context.Context, h *hold, id digest.Digest, below []digest.Digest, src layerSource) error {
	tmp, err := s.temp("layer")
	if err != nil {
		return err
	}
	defer s.discard(tmp)
	in, err := src.open()
	if err != nil {
		return err
	}
	defer in.Close()
	plain, _, err := layer.Decompress(in)
	if err != nil {
		return err
	}
	defer plain.Close()
	rec := layerRecord{Version: formatVersion, ChainID: id, DiffID: src.diffID, Parent: lastOf(below), Blob: src.blob}
	tee := &teeReader{r: plain, hash: digest.SHA256.Digester()}
	if src.blob == nil {
		keep, err := s.newKeeper()
		if err != nil {
			return err
		}
		defer keep.blob.abort()
		tee.also = keep
		if rec.Size, err = s.unpackInto(ctx, tmp, below, tee); err != nil {
			return err
		}
		if rec.Blob, err = keep.finish(h); err != nil {
			return err
		}
	} else if rec.Size, err = s.unpackInto(ctx, tmp, below, tee); err != nil {
		return err
	}
	if got := tee.hash.Digest(); got != src.diffID {
		return errs.New(errs.Invalid, "its content has digest %s: corrupted, or not the layer its image names", got)
	}
	rec.TarSize = tee.n
	return s.placeLayer(tmp, rec)
}

// unpackInto unpacks below tmp/fs and reads the stream to its end, padding included, because the digest covers it.
func (s *Store) unpackInto(ctx context.Context, tmp string, below []digest.Digest, tee *teeReader) (int64, error) {
	fsDir := filepath.Join(tmp, "fs")
	if err := os.Mkdir(fsDir, 0o755); err != nil {
		return 0, err
	}
	root, err := inroot.Open(fsDir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	if err := unix.Fchmod(root.Fd(), 0o755); err != nil {
		return 0, err
	}
	lower := func(name string) (*os.File, error) { return s.openLower(below, name) }
	got, err := layer.Unpack(ctx, root, tee, layer.UnpackOptions{Whiteouts: true, Limits: s.limits, Lower: lower})
	if err != nil {
		return 0, err
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(ctxReader{ctx, tee}, maxTarPadding+1)); err != nil {
		return 0, err
	} else if n > maxTarPadding {
		return 0, errs.New(errs.Invalid, "more than %d bytes after the end of the archive", maxTarPadding)
	}
	return got.Bytes, nil
}

const maxTarPadding = 64 << 20

// placeLayer puts a complete layer folder in its place, on disk, and into the table.
func (s *Store) placeLayer(tmp string, rec layerRecord) error {
	if err := atomicfile.WriteJSON(filepath.Join(tmp, "layer.json"), rec, 0o600); err != nil {
		return err
	}
	if err := syncTree(tmp); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.layers[rec.ChainID] != nil {
		return nil
	}
	if err := os.Rename(tmp, s.path(layersDir, rec.ChainID.Encoded())); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(s.path(layersDir)); err != nil {
		return err
	}
	s.layers[rec.ChainID] = &rec
	return nil
}

// syncTree makes all below dir durable with one call instead of one per file.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// teeReader hashes what is read, and hands it to a keeper.
type teeReader struct {
	r    io.Reader
	n    int64
	hash digest.Digester
	also io.Writer
}

func (t *teeReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.hash.Hash().Write(p[:n])
	t.n += int64(n)
	if t.also != nil && n > 0 {
		if _, werr := t.also.Write(p[:n]); werr != nil {
			return n, werr
		}
	}
	return n, err
}

// keeper stores a tar that came without being a blob, as zstd: it must be had again byte for byte, and Pack may differ.
type keeper struct {
	blob *newBlob
	z    *zstd.Encoder
}

func (s *Store) newKeeper() (*keeper, error) {
	b, err := s.newBlob()
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(b, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		b.abort()
		return nil, err
	}
	return &keeper{b, z}, nil
}

func (k *keeper) Write(p []byte) (int, error) { return k.z.Write(p) }

func (k *keeper) finish(h *hold) (*blobRef, error) {
	if err := k.z.Close(); err != nil {
		return nil, err
	}
	h.lockAdd(k.blob.digest.Digest())
	d, err := k.blob.commit()
	return &blobRef{Digest: d, MediaType: ocispec.MediaTypeImageLayerZstd, Size: k.blob.size}, err
}

// openLayer is the plain tar of a layer, byte for byte what its diffID names.
func (s *Store) openLayer(ctx context.Context, rec *layerRecord) (io.ReadCloser, error) {
	if rec.Blob != nil {
		f, err := os.Open(s.blobPath(rec.Blob.Digest))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", rec.DiffID, err)
		}
		plain, _, err := layer.Decompress(f)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("layer %s: %w", rec.DiffID, err)
		}
		return &closeBoth{plain, f}, nil
	}
	if rec.Format != layer.Format {
		return nil, errs.New(errs.Unsupported, "layer %s was made by tar writer %d, this program has %d", rec.DiffID, rec.Format, layer.Format)
	}
	root, err := inroot.Open(s.layerFS(rec.ChainID))
	if err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	go func() { // ends when the reader is closed or the tree is written
		defer root.Close()
		hash := digest.SHA256.Digester()
		err := layer.Pack(ctx, root, io.MultiWriter(pw, hash.Hash()), layer.PackOptions{Whiteouts: true})
		if err == nil && hash.Digest() != rec.DiffID {
			err = fmt.Errorf("layer %s: its directory was changed: packed it has digest %s", rec.DiffID, hash.Digest())
		}
		pw.CloseWithError(err)
	}()
	return pr, nil
}

type closeBoth struct {
	io.ReadCloser
	under io.Closer
}

func (c *closeBoth) Close() error {
	err := c.ReadCloser.Close()
	if uerr := c.under.Close(); err == nil {
		err = uerr
	}
	return err
}
