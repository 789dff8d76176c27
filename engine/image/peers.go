// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/knarr/knarr/internal/errs"
)

// Peer is the store of another node, as Store.Serve offers it.
type Peer struct {
	URL    string       // "https://10.0.0.2:6444/images"; /v2/… is put after it
	Client *http.Client // carries who we are; nil is http.DefaultClient
}

// peerFor bounds asking one peer what it has: one that is down must not hold up a pull that registries can serve.
const peerFor = 3 * time.Second

func (s *Store) peerRepos(n reference.Named) []*remoteRepo {
	if s.remote.Peers == nil {
		return nil
	}
	var out []*remoteRepo
	for _, p := range s.remote.Peers() {
		c := p.Client
		if c == nil {
			c = http.DefaultClient
		}
		out = append(out, &remoteRepo{named: n, client: c, ep: endpoint{host: p.URL, mirror: true},
			base: strings.TrimSuffix(p.URL, "/") + "/v2/" + n.Name()})
	}
	return out
}

// fromPeers pulls from the first peer that has the reference: by tag only what was made there, because a tag that came from
// a registry may have moved since.
func (p *pull) fromPeers(ctx context.Context) (Image, bool, error) {
	tag, _ := target(p.named)
	for _, r := range p.peers {
		ask, cancel := context.WithTimeout(ctx, peerFor)
		_, _, _, err := r.manifest(ask, tag)
		cancel()
		if err == nil {
			p.repo = r
			var img Image
			if img, err = p.run(ctx); err == nil {
				return img, true, nil
			}
		}
		if ctx.Err() != nil {
			return Image{}, false, ctx.Err()
		}
		if !errors.Is(err, errs.NotFound) {
			p.s.log.Warn("image store: peer left out", "peer", r.ep.host, "image", p.named.String(), "err", err)
		}
	}
	return Image{}, false, nil
}

// blobSources lists who is asked for the image's layers, in order.
func (p *pull) blobSources() []*remoteRepo {
	var out []*remoteRepo
	for _, r := range p.peers {
		if r != p.repo {
			out = append(out, r)
		}
	}
	return append(out, p.repo)
}
