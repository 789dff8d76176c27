// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// Serve offers the store to other nodes: the reading half of the distribution protocol (distribution-spec, "Pull"), with
// names spelled out: /v2/docker.io/library/web/manifests/latest. By tag it has only what was made here (Image.Local); by
// digest it has everything. Who may ask is the caller's to check.
func (s *Store) Serve() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.servePeer(w, r); err != nil {
			s.refusePeer(w, err)
		}
	})
}

func (s *Store) refusePeer(w http.ResponseWriter, err error) {
	status, code := http.StatusInternalServerError, "UNKNOWN"
	switch errs.Kind(err) {
	case errs.NotFound:
		status, code = http.StatusNotFound, "MANIFEST_UNKNOWN"
	case errs.Invalid:
		status, code = http.StatusBadRequest, "NAME_INVALID"
	case errs.Unsupported:
		status, code = http.StatusMethodNotAllowed, "UNSUPPORTED"
	default:
		s.log.Warn("image store: cannot serve a peer", "err", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	type fault struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	json.NewEncoder(w).Encode(map[string][]fault{"errors": {{code, err.Error()}}}) // the peer may have gone
}

func (s *Store) servePeer(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errs.New(errs.Unsupported, "images are only read here: %s is not answered", r.Method)
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2")
	if !ok || rest == "" || rest == "/" {
		if !ok {
			return errs.New(errs.NotFound, "no such page: %.200q", r.URL.Path)
		}
		_, err := io.WriteString(w, "{}")
		return err
	}
	for _, what := range []string{"/manifests/", "/blobs/"} {
		i := strings.LastIndex(rest, what)
		if i < 0 {
			continue
		}
		n, err := reference.ParseNormalizedNamed(rest[1:i])
		if err != nil || !reference.IsNameOnly(n) {
			return errs.New(errs.Invalid, "%.200q is no repository", rest[1:i])
		}
		if last := rest[i+len(what):]; what == "/blobs/" {
			return s.servePeerBlob(w, r, digest.Digest(last))
		} else {
			return s.servePeerManifest(w, r, n, last)
		}
	}
	return errs.New(errs.NotFound, "no such page: %.200q", r.URL.Path)
}

func (s *Store) servePeerManifest(w http.ResponseWriter, r *http.Request, n reference.Named, tagOrDigest string) error {
	raw, mt, err := s.peerManifest(n, tagOrDigest)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mt)
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(raw).String())
	if r.Method == http.MethodHead {
		return nil
	}
	_, err = w.Write(raw)
	return err
}

// peerManifest finds what a peer asks for: by tag, or by the digest of the manifest an image came or goes with.
func (s *Store) peerManifest(n reference.Named, tagOrDigest string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := digest.Digest(tagOrDigest)
	if want.Validate() != nil {
		img := s.images[s.names[n.Name()+":"+tagOrDigest]]
		if img == nil || !img.Local {
			return nil, "", errs.New(errs.NotFound, "%s:%.128s was not made here", n.Name(), tagOrDigest)
		}
		return s.manifestOf(img)
	}
	for _, img := range s.images {
		if m := img.record.Manifest; !img.Local && (m == nil || m.Digest != want) {
			continue // making a manifest for each image costs reading its config
		}
		if raw, mt, err := s.manifestOf(img); err == nil && digest.FromBytes(raw) == want {
			return raw, mt, nil
		}
	}
	return nil, "", errs.New(errs.NotFound, "manifest %s is not here", want)
}

// manifestOf is the manifest an image came with, or one made of the layers as they lie here. It needs mu.
func (s *Store) manifestOf(img *Image) ([]byte, string, error) {
	var layers []*layerRecord
	for _, c := range img.chain {
		layers = append(layers, s.layers[c])
	}
	if m := img.record.Manifest; m != nil {
		out := &outgoing{progress: func(Progress) {}}
		if ok, err := s.fillAsPulled(out, *m, layers); ok && err == nil {
			return out.manifest, out.mediaType, nil
		}
	}
	config, err := s.readBlob(img.ID, maxConfigSize)
	if err != nil {
		return nil, "", err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: img.ID, Size: int64(len(config))}}
	for _, l := range layers {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: l.TarSize}
		if b := l.Blob; b != nil {
			d = ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
		}
		m.Layers = append(m.Layers, d)
	}
	raw, err := json.Marshal(m)
	return raw, m.MediaType, err
}

func (s *Store) servePeerBlob(w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	h := s.newHold()
	defer h.release()
	h.lockAdd(d)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	f, err := os.Open(s.blobPath(d))
	if err == nil {
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, f)
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.servePackedLayer(w, r, h, d)
}

// servePackedLayer makes the tar of a layer that is kept only as a directory.
func (s *Store) servePackedLayer(w http.ResponseWriter, r *http.Request, h *hold, diffID digest.Digest) error {
	l := s.holdByDiffID(h, diffID)
	if l == nil {
		return errs.New(errs.NotFound, "blob %s is not here", diffID)
	}
	w.Header().Set("Content-Length", strconv.FormatInt(l.TarSize, 10))
	if r.Method == http.MethodHead {
		return nil
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	in, err := s.openLayer(ctx, l)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.Copy(w, in); err != nil {
		s.log.Debug("image store: a peer's download ended", "layer", diffID, "err", err)
		panic(http.ErrAbortHandler) // the length is announced: the connection must not look whole
	}
	return nil
}

func (s *Store) holdByDiffID(h *hold, diffID digest.Digest) *layerRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.layers {
		if l.DiffID == diffID && l.Blob == nil {
			h.add(l.ChainID)
			return l
		}
	}
	return nil
}
