// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// fetchBlob brings a blob into the store from one of several sources, of which the last is tried several times. What an
// earlier attempt, also of an earlier daemon, has brought is not asked for again.
func (s *Store) fetchBlob(ctx context.Context, h *hold, from []*remoteRepo, d ocispec.Descriptor, progress func(Progress)) error {
	release, err := s.once(ctx, d.Digest)
	if err != nil {
		return err
	}
	defer release()
	h.lockAdd(d.Digest)
	if s.hasBlob(d.Digest) {
		return nil
	}
	file := s.path(downloadsDir, d.Digest.Encoded())
	for ; len(from) > 1; from = from[1:] {
		if err := s.fetchOnce(ctx, from[0], d, file, progress); err == nil {
			return s.adoptBlob(file, d.Digest)
		} else if ctx.Err() != nil {
			return err
		}
	}
	if err := s.fetchRepeatedly(ctx, from[0], d, file, progress); err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return s.adoptBlob(file, d.Digest)
}

func (s *Store) fetchRepeatedly(ctx context.Context, r *remoteRepo, d ocispec.Descriptor, file string, progress func(Progress)) error {
	const attempts = 4 // that brought it no further
	best := int64(0)
	for n := 1; ; n++ {
		err := s.fetchOnce(ctx, r, d, file, progress)
		if err == nil {
			return nil
		}
		if fi, serr := os.Stat(file); serr == nil && fi.Size() > best { // a bad line that moves on gets there
			best, n = fi.Size(), 0
		}
		if kind := errs.Kind(err); ctx.Err() != nil || kind != nil && kind != errs.Unavailable || n >= attempts {
			return err
		}
		s.log.Debug("image store: download interrupted", "blob", d.Digest, "attempt", n, "err", err)
		if err := pause(ctx, time.Duration(n+1)*200*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fetchOnce appends to file what it lacks and checks the whole.
func (s *Store) fetchOnce(ctx context.Context, r *remoteRepo, d ocispec.Descriptor, file string, progress func(Progress)) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := digest.SHA256.Digester()
	have, err := io.Copy(hash.Hash(), io.LimitReader(f, d.Size))
	if err != nil {
		return err
	}
	if have < d.Size || d.Size == 0 {
		body, from, err := r.openBlob(ctx, d, have)
		if err != nil {
			return err
		}
		defer body.Close()
		if from != have { // the registry ignored the range
			hash, have = digest.SHA256.Digester(), 0
		}
		if err := f.Truncate(have); err != nil {
			return err
		}
		if _, err := f.Seek(have, io.SeekStart); err != nil {
			return err
		}
		report := &meter{id: short(d.Digest), status: "Downloading", n: have, total: d.Size, out: progress}
		n, err := io.Copy(io.MultiWriter(f, hash.Hash(), report), io.LimitReader(body, d.Size-have+1))
		if err != nil {
			return errs.New(errs.Unavailable, "%w", err)
		}
		have += n
	}
	if have < d.Size {
		return errs.New(errs.Unavailable, "the connection ended after %d of %d bytes", have, d.Size)
	}
	if have != d.Size || hash.Digest() != d.Digest {
		os.Remove(file)
		return errs.New(errs.Invalid, "the registry sent %d bytes with digest %s", have, hash.Digest())
	}
	return f.Close()
}

// openBlob asks for a blob from an offset on and answers where the body really begins.
func (r *remoteRepo) openBlob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/blobs/"+d.Digest.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, 0, registryError(r.named, r.ep, err)
	}
	if offset > 0 && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		resp.Body.Close()
		return r.openBlob(ctx, d, 0)
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		resp.Body.Close()
		return nil, 0, registryError(r.named, r.ep, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, 0, nil
	}
	var first int64
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first != offset {
		resp.Body.Close()
		return nil, 0, errs.New(errs.Invalid, "the registry answered range %q", resp.Header.Get("Content-Range"))
	}
	return resp.Body, offset, nil
}

// document fetches a small blob into memory.
func (r *remoteRepo) document(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error) {
	body, _, err := r.openBlob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := readBounded(body, limit)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if digest.FromBytes(data) != d.Digest {
		return nil, errs.New(errs.Invalid, "blob %s: the registry sent other content", d.Digest)
	}
	return data, nil
}

// meter reports how far a copy is, at most every 100 ms.
type meter struct {
	id, status string
	n, total   int64
	last       time.Time
	out        func(Progress)
}

func (m *meter) Write(p []byte) (int, error) {
	m.n += int64(len(p))
	if now := time.Now(); now.Sub(m.last) >= 100*time.Millisecond || m.n == m.total {
		m.last = now
		m.out(Progress{ID: m.id, Status: m.status, Current: m.n, Total: m.total})
	}
	return len(p), nil
}
