// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

func toAuth(a registry.AuthConfig) (image.Auth, error) {
	if a.Username == "" && a.Password == "" && a.Auth != "" {
		text, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(string(text), ":")
		if err != nil || !ok {
			return image.Auth{}, errs.New(errs.Invalid, "credentials: auth is not the base64 of name:password")
		}
		a.Username, a.Password = user, strings.TrimRight(password, "\x00")
	}
	return image.Auth{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}, nil
}

// decodeHeader reads a header that holds base64 of JSON, in either alphabet, with or without padding.
func decodeHeader(r *http.Request, name string, into any) error {
	h := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(r.Header.Get(name)), "=")
	if h == "" {
		return nil
	}
	data, err := base64.RawURLEncoding.DecodeString(h)
	if err != nil {
		return errs.New(errs.Invalid, "%s: %w", name, err)
	}
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errs.New(errs.Invalid, "%s: %w", name, err)
	}
	return nil
}

// registryAuth decodes the credentials that clients send along.
func registryAuth(r *http.Request) (image.Auth, error) {
	var a registry.AuthConfig
	if err := decodeHeader(r, "X-Registry-Auth", &a); err != nil {
		return image.Auth{}, err
	}
	return toAuth(a)
}

// registryAuths decodes the credentials of all registries, which a build may need.
func registryAuths(r *http.Request) (func(registry string) image.Auth, error) {
	var all map[string]registry.AuthConfig
	if err := decodeHeader(r, "X-Registry-Config", &all); err != nil {
		return nil, err
	}
	byHost := map[string]image.Auth{}
	for address, a := range all {
		auth, err := toAuth(a)
		if err != nil {
			return nil, err
		}
		byHost[image.RegistryHost(address)] = auth
	}
	return func(registry string) image.Auth { return byHost[registry] }, nil
}

// auth is docker login: the client keeps what the registry took.
func (s *Server) auth(w http.ResponseWriter, r *http.Request) error {
	var a registry.AuthConfig
	if err := readJSON(r, &a); err != nil {
		return err
	}
	auth, err := toAuth(a)
	if err != nil {
		return err
	}
	if err := s.Images.Login(r.Context(), a.ServerAddress, auth); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, registry.AuthResponse{Status: "Login Succeeded"})
}

func (s *Server) imageSearch(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "is-official", "is-automated", "stars")
	if err != nil {
		return err
	}
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	limit, stars := 0, 0
	for _, n := range []struct {
		text string
		into *int
	}{{r.URL.Query().Get("limit"), &limit}, {strings.Join(f["stars"], ""), &stars}} {
		if n.text == "" {
			continue
		}
		if *n.into, err = strconv.Atoi(n.text); err != nil {
			return errs.New(errs.Invalid, "search: want a number, not %q", n.text)
		}
	}
	found, err := s.Images.Search(r.Context(), r.URL.Query().Get("term"), limit, auth)
	if err != nil {
		return err
	}
	out := []registry.SearchResult{}
	for _, x := range found {
		if x.Stars < stars || f["is-official"] != nil && x.Official != f.flag("is-official", true) || f["is-automated"] != nil && x.Automated != f.flag("is-automated", true) {
			continue
		}
		out = append(out, registry.SearchResult{Name: x.Name, Description: x.Description, StarCount: x.Stars, IsOfficial: x.Official})
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) distribution(w http.ResponseWriter, r *http.Request) error {
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	d, err := s.Images.Ask(r.Context(), r.PathValue("name"), image.PullOptions{Auth: auth})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, registry.DistributionInspect{Descriptor: d.Descriptor, Platforms: d.Platforms})
}

// imagePull is docker pull, and docker import when there is a source.
func (s *Server) imagePull(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if src := q.Get("fromSrc"); src != "" {
		return s.imageImport(w, r, src)
	}
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	m := newMessages(w)
	o := image.PullOptions{Auth: auth, Platform: q.Get("platform"), Progress: m.progress}
	refs := []string{withTag(q.Get("fromImage"), q.Get("tag"))}
	if n, perr := reference.ParseNormalizedNamed(refs[0]); perr == nil && reference.IsNameOnly(n) { // pull --all-tags
		tags, err := s.Images.Tags(r.Context(), refs[0], o)
		if err != nil {
			return err
		}
		refs = refs[:0]
		for _, t := range tags {
			refs = append(refs, n.Name()+":"+t)
		}
	}
	for _, ref := range refs {
		if _, err := s.Images.Pull(r.Context(), ref, o); err != nil {
			return m.end(err)
		}
		s.publishImage("pull", ref)
	}
	return nil
}

// imagePush is docker push: one tag, or all of the repository when none is given.
func (s *Server) imagePush(w http.ResponseWriter, r *http.Request) error {
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	refs := []string{withTag(r.PathValue("name"), r.URL.Query().Get("tag"))}
	if n, perr := reference.ParseNormalizedNamed(refs[0]); perr == nil && reference.IsNameOnly(n) {
		if refs, err = s.Images.Tagged(refs[0]); err != nil {
			return err
		}
	}
	m := newMessages(w)
	for _, ref := range refs {
		pushed, err := s.Images.Push(r.Context(), ref, image.PushOptions{Auth: auth, Progress: m.progress})
		if err != nil {
			return m.end(err)
		}
		s.publishImage("push", ref)
		tag := ref[strings.LastIndex(ref, ":")+1:]
		m.send(jsonstream.Message{Status: tag + ": digest: " + pushed.Digest.String() + " size: " + strconv.FormatInt(pushed.Size, 10)})
		aux, err := json.Marshal(map[string]any{"Tag": tag, "Digest": pushed.Digest, "Size": pushed.Size})
		if err != nil {
			return m.end(err)
		}
		raw := json.RawMessage(aux)
		m.send(jsonstream.Message{Aux: &raw})
	}
	return nil
}

// publishImage tells subscribers what happened to an image, by the name people type.
func (s *Server) publishImage(action, ref string) {
	if n, err := reference.ParseNormalizedNamed(ref); err == nil {
		ref = reference.FamiliarString(n)
	}
	s.publish("image", action, ref)
}
