// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/knarr/knarr/internal/errs"
)

// PullOptions of Pull.
type PullOptions struct {
	Auth     Auth
	AuthFor  func(registry string) Auth // asked instead if Auth is empty and it is not nil
	Platform string                     // "os/arch[/variant]"; "" for this machine's
	Insecure bool                       // plain http and unverified certificates; loopback registries need not say so for http
	Progress func(Progress)
}

func (o PullOptions) auth(registry string) Auth {
	if o.Auth == (Auth{}) && o.AuthFor != nil {
		return o.AuthFor(registry)
	}
	return o.Auth
}

// parallelDownloads of one pull, as Docker has by default.
const parallelDownloads = 3

// Pull fetches an image and names it, unless it was asked for by digest. Layers that are here are not fetched. Peers are
// asked first, then mirrors, then the registry that the name says.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (Image, error) {
	n, err := ParseName(ref)
	if err != nil {
		return Image{}, err
	}
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return Image{}, err
	}
	p := &pull{s: s, h: s.newHold(), named: n, want: want, progress: serialise(o.Progress), peers: s.peerRepos(n)}
	defer p.h.release()
	img, err := p.anywhere(ctx, o)
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", reference.FamiliarString(n), err)
	}
	return img, nil
}

// anywhere tries each place that may have the image; what one has sent is not asked for again at the next.
func (p *pull) anywhere(ctx context.Context, o PullOptions) (Image, error) {
	if img, ok, err := p.fromPeers(ctx); ok || err != nil {
		return img, err
	}
	registry := reference.Domain(p.named)
	eps, err := p.s.remote.endpoints(registry)
	if err != nil {
		return Image{}, err
	}
	for _, ep := range eps {
		ep.plain, ep.insecure = ep.plain || o.Insecure, ep.insecure || o.Insecure
		var img Image
		if p.repo, err = openRepo(ctx, p.named, ep, o.auth(registry), "pull"); err == nil {
			img, err = p.run(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return img, err
		}
		if ep.mirror {
			p.s.log.Warn("image store: mirror left out", "mirror", ep.host, "image", p.named.String(), "err", err)
		}
	}
	return Image{}, err
}

// serialise lets parallel downloads report through one function.
func serialise(f func(Progress)) func(Progress) {
	if f == nil {
		return func(Progress) {}
	}
	var mu sync.Mutex
	return func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		f(p)
	}
}

// pull is one running Pull.
type pull struct {
	s        *Store
	h        *hold
	repo     *remoteRepo   // that the image is pulled from
	peers    []*remoteRepo // asked for blobs before repo
	named    reference.Named
	want     ocispec.Platform
	progress func(Progress)
}

func (p *pull) run(ctx context.Context) (Image, error) {
	tag, byDigest := target(p.named)
	p.progress(Progress{ID: tag, Status: "Pulling from " + reference.Path(p.named)})
	raw, top, mt, err := p.repo.manifest(ctx, tag)
	if err != nil {
		return Image{}, err
	}
	doc, err := parseManifest(raw, mt)
	if err != nil {
		return Image{}, err
	}
	if doc.isIndex {
		if doc, raw, err = p.choose(ctx, doc); err != nil {
			return Image{}, err
		}
	}
	config, sp, err := p.config(ctx, doc)
	if err != nil {
		return Image{}, err
	}
	if err := p.layers(ctx, doc, sp); err != nil {
		return Image{}, err
	}
	mref := &blobRef{Digest: digest.FromBytes(raw), MediaType: manifestType(doc, mt), Size: int64(len(raw))}
	p.h.lockAdd(mref.Digest)
	if _, err := p.s.putBlob(raw, true); err != nil {
		return Image{}, err
	}
	var names []string
	if !byDigest {
		names = []string{p.named.String()}
	}
	status := "Status: Downloaded newer image for "
	if old, err := p.s.Get(p.named.String()); err == nil && old.ID == digest.FromBytes(config) {
		status = "Status: Image is up to date for "
	}
	repoDigest := reference.FamiliarName(p.named) + "@" + top.String()
	img, err := p.s.addImage(config, imageRecord{Manifest: mref, RepoDigests: []string{repoDigest}}, names)
	if err == nil {
		p.progress(Progress{Status: "Digest: " + top.String()})
		p.progress(Progress{Status: status + reference.FamiliarString(p.named)})
	}
	return img, err
}

// target is what to ask the registry for: a digest, if the reference has one, says more than a tag.
func target(n reference.Named) (string, bool) {
	if c, ok := n.(reference.Digested); ok {
		return c.Digest().String(), true
	}
	if t, ok := n.(reference.Tagged); ok {
		return t.Tag(), false
	}
	return "latest", false
}

func manifestType(doc manifestDoc, header string) string {
	if doc.MediaType != "" {
		return doc.MediaType
	}
	if slices.Contains(manifestTypes, header) && !isIndexType(header) {
		return header
	}
	return ocispec.MediaTypeImageManifest
}

// choose takes the manifest for the wanted platform out of an index.
func (p *pull) choose(ctx context.Context, index manifestDoc) (manifestDoc, []byte, error) {
	d, err := chooseManifest(index.Manifests, p.want)
	if err != nil {
		return manifestDoc{}, nil, err
	}
	raw, _, mt, err := p.repo.manifest(ctx, d.Digest.String())
	if err != nil {
		return manifestDoc{}, nil, err
	}
	if mt == "" || mt == "application/json" {
		mt = d.MediaType
	}
	doc, err := parseManifest(raw, mt)
	if err == nil && doc.isIndex {
		err = errs.New(errs.Unsupported, "index %s holds another index", d.Digest)
	}
	return doc, raw, err
}

// chooseManifest is pure: the best entry of an index for a platform.
func chooseManifest(list []ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	var have []string
	best := -1
	for i, d := range list {
		if checkDigest(d.Digest) != nil || d.Platform == nil || !slices.Contains(manifestTypes, d.MediaType) {
			continue
		}
		have = append(have, platformString(*d.Platform))
		if !matches(*d.Platform, want) {
			continue
		}
		if best < 0 || d.Platform.Variant == want.Variant && list[best].Platform.Variant != want.Variant {
			best = i
		}
	}
	if best < 0 {
		return ocispec.Descriptor{}, errs.New(errs.NotFound, "no matching manifest for %s: the image is there for %v", platformString(want), have)
	}
	return list[best], nil
}

func (p *pull) config(ctx context.Context, doc manifestDoc) ([]byte, Spec, error) {
	config, err := p.repo.document(ctx, doc.Config, maxConfigSize)
	if err != nil {
		return nil, Spec{}, err
	}
	sp, err := parseSpec(config)
	if err != nil {
		return nil, sp, err
	}
	if len(sp.RootFS.DiffIDs) != len(doc.Layers) {
		return nil, sp, errs.New(errs.Invalid, "the manifest lists %d layers, the config %d", len(doc.Layers), len(sp.RootFS.DiffIDs))
	}
	if sp.OS != "" && !matches(sp.Platform, p.want) {
		return nil, sp, errs.New(errs.Unsupported, "the image is for %s, not for %s", platformString(sp.Platform), platformString(p.want))
	}
	p.h.lockAdd(digest.FromBytes(config))
	return config, sp, nil
}

// layers downloads what is missing, a few at a time, and unpacks bottom up as it comes.
func (p *pull) layers(ctx context.Context, doc manifestDoc, sp Spec) error {
	chain := chainIDs(sp.RootFS.DiffIDs)
	have := p.holdPresent(chain)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelDownloads + 1) // the unpacker is one of them
	ready := make([]chan struct{}, len(doc.Layers))
	for i, d := range doc.Layers {
		ready[i] = make(chan struct{})
		status := "Pulling fs layer"
		if i < have {
			status = "Already exists"
		}
		p.progress(Progress{ID: short(d.Digest), Status: status})
	}
	g.Go(func() error { return p.unpack(gctx, doc, sp, chain, have, ready) })
	for i := have; i < len(doc.Layers); i++ {
		g.Go(func() error {
			if err := p.s.fetchBlob(gctx, p.h, p.blobSources(), doc.Layers[i], p.progress); err != nil {
				return err
			}
			p.progress(Progress{ID: short(doc.Layers[i].Digest), Status: "Download complete"})
			close(ready[i])
			return nil
		})
	}
	return g.Wait()
}

// holdPresent holds the layers that are here, from the bottom, and counts them.
func (p *pull) holdPresent(chain []digest.Digest) int {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for i, c := range chain {
		if p.s.layers[c] == nil {
			return i
		}
		p.h.add(c)
	}
	return len(chain)
}

func (p *pull) unpack(ctx context.Context, doc manifestDoc, sp Spec, chain []digest.Digest, have int, ready []chan struct{}) error {
	for i := have; i < len(chain); i++ {
		select {
		case <-ready[i]:
		case <-ctx.Done():
			return ctx.Err()
		}
		d := doc.Layers[i]
		id := short(d.Digest)
		p.progress(Progress{ID: id, Status: "Extracting", Total: d.Size})
		open := func() (io.ReadCloser, error) { return os.Open(p.s.blobPath(d.Digest)) }
		src := layerSource{diffID: sp.RootFS.DiffIDs[i], open: open, blob: &blobRef{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size}}
		if _, err := p.s.ensureLayer(ctx, p.h, chain[:i], src); err != nil {
			return err
		}
		p.progress(Progress{ID: id, Status: "Pull complete"})
	}
	return nil
}
