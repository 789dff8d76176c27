// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/errs"
)

// Auth is what a registry asks for; the zero value is anonymous.
type Auth struct {
	Username, Password string
	IdentityToken      string // OAuth2 refresh token
	RegistryToken      string // bearer, sent as it is
}

// PullOptions of Pull.
type PullOptions struct {
	Auth     Auth
	Platform string // "os/arch[/variant]"; "" for this machine's
	Insecure bool   // plain http and unverified certificates; loopback registries need not say so
	Progress func(Progress)
}

// PushOptions of Push.
type PushOptions struct {
	Auth     Auth
	Insecure bool
	Progress func(Progress)
}

var errSoon = errs.New(errs.Unsupported, "image store: being written")

// Pull fetches an image from its registry.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (Image, error) {
	return Image{}, errSoon
}

// Push sends the image to the registry its name says, and answers the manifest's digest.
func (s *Store) Push(ctx context.Context, ref string, o PushOptions) (digest.Digest, error) {
	return "", errSoon
}

// Save writes the images as one tar that is both a docker-archive and an OCI layout.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string) error { return errSoon }
