// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"strings"

	dimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

func (s *Server) imageList(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "label", "reference", "before", "since", "until")
	if err != nil {
		return err
	}
	out := []dimage.Summary{}
	list := s.Images.List()
	parents := map[digest.Digest]bool{} // what others were made from is no refuse
	for _, img := range list {
		parents[img.Parent] = true
	}
	for _, img := range list {
		if !truth(r, "all") && (img.Cache || img.Dangling() && parents[img.ID]) || !imageListed(img, f) {
			continue
		}
		out = append(out, s.imageSummary(img))
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) imageSummary(img image.Image) dimage.Summary {
	created := int64(0)
	if !img.Created.IsZero() {
		created = img.Created.Unix()
	}
	return dimage.Summary{
		ID: img.ID.String(), ParentID: img.Parent.String(), RepoTags: orEmpty(img.Names), RepoDigests: orEmpty(img.RepoDigests),
		Created: created, Size: img.Size, SharedSize: -1, Containers: int64(len(s.Containers.ImageUsers(img.ID))), Labels: img.Config.Config.Labels,
	}
}

func imageListed(img image.Image, f filters) bool {
	return f.labels(img.Config.Config.Labels) &&
		(f["dangling"] == nil || f.flag("dangling", false) == img.Dangling()) &&
		f.any("reference", func(v string) bool {
			for _, n := range img.Names {
				repo, _, _ := strings.Cut(n, ":")
				for _, candidate := range []string{n, repo, path.Base(repo)} {
					if ok, _ := path.Match(v, candidate); ok {
						return true
					}
				}
			}
			return false
		})
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (s *Server) imageInspect(w http.ResponseWriter, r *http.Request) error {
	img, err := s.Images.Get(r.PathValue("name"))
	if err != nil {
		return err
	}
	out := dimage.InspectResponse{
		ID: img.ID.String(), RepoTags: orEmpty(img.Names), RepoDigests: orEmpty(img.RepoDigests), Author: img.Config.Author,
		Created: stamp(img.Created), Config: &img.Config.Config, Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS,
		OsVersion: img.Config.OSVersion, Size: img.Size, RootFS: dimage.RootFS{Type: "layers"}, Metadata: dimage.Metadata{LastTagTime: img.Tagged},
	}
	for _, l := range img.Layers {
		out.RootFS.Layers = append(out.RootFS.Layers, l.String())
	}
	if n := len(img.Config.History); n > 0 {
		out.Comment = img.Config.History[n-1].Comment
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) imageHistory(w http.ResponseWriter, r *http.Request) error {
	img, err := s.Images.Get(r.PathValue("name"))
	if err != nil {
		return err
	}
	out := []dimage.HistoryResponseItem{}
	sizes := s.Images.LayerSizes(img)
	for i := len(img.Config.History) - 1; i >= 0; i-- {
		h := img.Config.History[i]
		item := dimage.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if n := len(sizes); !h.EmptyLayer && n > 0 {
			item.Size, sizes = sizes[n-1], sizes[:n-1]
		}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if len(out) == 0 {
			item.ID, item.Tags = img.ID.String(), img.Names
		}
		out = append(out, item)
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) imageTag(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if err := s.Images.Tag(r.PathValue("name"), withTag(q.Get("repo"), q.Get("tag"))); err != nil {
		return err
	}
	s.publish("image", "tag", r.PathValue("name"))
	w.WriteHeader(http.StatusCreated)
	return nil
}

func withTag(repo, tag string) string {
	switch {
	case tag == "":
		return repo
	case strings.Contains(tag, ":"): // a digest
		return repo + "@" + tag
	}
	return repo + ":" + tag
}

func (s *Server) imageRemove(w http.ResponseWriter, r *http.Request) error {
	removed, err := s.Images.Remove(r.Context(), r.PathValue("name"), truth(r, "force"), s.Containers.ImageUsers)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, deleted(removed))
}

func deleted(removed []image.Removed) []dimage.DeleteResponse {
	out := []dimage.DeleteResponse{}
	for _, x := range removed {
		out = append(out, dimage.DeleteResponse{Untagged: x.Untagged, Deleted: x.Deleted.String()})
	}
	return out
}

func (s *Server) imagePrune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "label", "until")
	if err != nil {
		return err
	}
	removed, freed, err := s.Images.Prune(r.Context(), image.PruneOptions{
		All: !f.flag("dangling", true), InUse: s.Containers.ImageUsers, Keep: func(i image.Image) bool { return !f.labels(i.Config.Config.Labels) },
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, dimage.PruneReport{ImagesDeleted: deleted(removed), SpaceReclaimed: uint64(freed)})
}

// messages is a stream of progress as Docker's clients print it. Once it has begun, an error is a message too.
type messages struct {
	enc   *json.Encoder
	begun bool
	w     http.ResponseWriter
}

func newMessages(w http.ResponseWriter) *messages {
	return &messages{enc: json.NewEncoder(newFlushing(w)), w: w}
}

func (m *messages) send(v jsonstream.Message) {
	if !m.begun {
		m.begun = true
		m.w.Header().Set("Content-Type", "application/json")
	}
	m.enc.Encode(v) // a client that has gone shows in the request's context
}

func (m *messages) progress(p image.Progress) {
	v := jsonstream.Message{ID: p.ID, Status: p.Status}
	if p.Total > 0 || p.Current > 0 {
		v.Progress = &jsonstream.Progress{Current: p.Current, Total: p.Total}
	}
	m.send(v)
}

// Write makes a message of text, so that a build can print into the stream.
func (m *messages) Write(p []byte) (int, error) {
	m.send(jsonstream.Message{Stream: string(p)})
	return len(p), nil
}

// end answers an error as a status if nothing was sent yet, else as the last message.
func (m *messages) end(err error) error {
	if err == nil || !m.begun {
		return err
	}
	type errorMessage struct { // older clients read the plain member
		jsonstream.Message
		Text string `json:"error"`
	}
	m.enc.Encode(errorMessage{jsonstream.Message{Error: &jsonstream.Error{Message: err.Error()}}, err.Error()})
	return nil
}

// registryAuth decodes the credentials that clients send along.
func registryAuth(r *http.Request) (image.Auth, error) {
	h := r.Header.Get("X-Registry-Auth")
	if h == "" {
		return image.Auth{}, nil
	}
	data, err := base64.URLEncoding.DecodeString(h)
	if err != nil {
		if data, err = base64.StdEncoding.DecodeString(h); err != nil {
			return image.Auth{}, errs.New(errs.Invalid, "X-Registry-Auth: %w", err)
		}
	}
	var a registry.AuthConfig
	if err := json.Unmarshal(data, &a); err != nil && len(data) > 0 {
		return image.Auth{}, errs.New(errs.Invalid, "X-Registry-Auth: %w", err)
	}
	return image.Auth{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}, nil
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
	ref := withTag(q.Get("fromImage"), q.Get("tag"))
	m := newMessages(w)
	img, err := s.Images.Pull(r.Context(), ref, image.PullOptions{Auth: auth, Platform: q.Get("platform"), Progress: m.progress})
	if err == nil {
		s.publish("image", "pull", ref)
		m.send(jsonstream.Message{Status: "Status: Image is up to date for " + ref})
		_ = img
	}
	return m.end(err)
}

func (s *Server) imageImport(w http.ResponseWriter, r *http.Request, src string) error {
	if src != "-" {
		return errs.New(errs.Unsupported, "import from %s: only a tar in the request body is read; download it first", src)
	}
	q := r.URL.Query()
	name := ""
	if repo := q.Get("repo"); repo != "" {
		name = withTag(repo, q.Get("tag"))
	}
	if err := checkChanges(q["changes"]); err != nil {
		return err
	}
	img, err := s.Images.Import(r.Context(), r.Body, image.ImportOptions{Name: name, Message: q.Get("message"), Platform: q.Get("platform")})
	if err != nil {
		return err
	}
	if img, err = s.withChanges(r.Context(), img, q["changes"], name); err != nil {
		return err
	}
	m := newMessages(w)
	m.send(jsonstream.Message{Status: img.ID.String()})
	return nil
}

func (s *Server) imagePush(w http.ResponseWriter, r *http.Request) error {
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	ref := withTag(r.PathValue("name"), r.URL.Query().Get("tag"))
	m := newMessages(w)
	digest, err := s.Images.Push(r.Context(), ref, image.PushOptions{Auth: auth, Progress: m.progress})
	if err == nil {
		m.send(jsonstream.Message{Status: ref + ": digest: " + digest.String()})
	}
	return m.end(err)
}

func (s *Server) imageLoad(w http.ResponseWriter, r *http.Request) error {
	m := newMessages(w)
	progress := m.progress
	if truth(r, "quiet") {
		progress = nil
	}
	imgs, err := s.Images.Load(r.Context(), r.Body, progress)
	for _, img := range imgs {
		s.publish("image", "load", img.ID.String())
		if len(img.Names) == 0 {
			io.WriteString(m, "Loaded image ID: "+img.ID.String()+"\n")
		}
		for _, n := range img.Names {
			io.WriteString(m, "Loaded image: "+n+"\n")
		}
	}
	return m.end(err)
}

func (s *Server) imageSave(w http.ResponseWriter, r *http.Request) error {
	refs := r.URL.Query()["names"]
	if n := r.PathValue("name"); n != "" {
		refs = []string{n}
	}
	if len(refs) == 0 {
		return errs.New(errs.Invalid, "save: no image was named")
	}
	for _, ref := range refs {
		if _, err := s.Images.Get(ref); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return s.cut(r, s.Images.Save(r.Context(), w, refs))
}

func (s *Server) commit(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var cfg *image.ContainerConfig
	if err := readJSON(r, &cfg); err != nil {
		return err
	}
	name := ""
	if repo := q.Get("repo"); repo != "" {
		name = withTag(repo, q.Get("tag"))
	}
	if err := checkChanges(q["changes"]); err != nil {
		return err
	}
	img, err := s.Containers.Commit(r.Context(), q.Get("container"), container.CommitOptions{
		Name: name, Author: q.Get("author"), Message: q.Get("comment"), Config: changedConfig(cfg), NoPause: q.Has("pause") && !truth(r, "pause"),
	})
	if err != nil {
		return err
	}
	if img, err = s.withChanges(r.Context(), img, q["changes"], name); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, map[string]string{"Id": img.ID.String()})
}

// changedConfig is nil when the client says nothing, so that the container's own configuration is kept.
func changedConfig(cfg *image.ContainerConfig) *image.ContainerConfig {
	if cfg != nil && cfg.Entrypoint == nil && cfg.Cmd == nil && cfg.Env == nil && cfg.WorkingDir == "" && cfg.User == "" && len(cfg.Labels) == 0 {
		return nil
	}
	return cfg
}

// checkChanges refuses what commit --change and import --change may not say: only instructions that touch no file.
func checkChanges(changes []string) error {
	for _, c := range changes {
		name, _, _ := strings.Cut(strings.TrimSpace(c), " ")
		switch strings.ToUpper(name) {
		case "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR":
			if !strings.ContainsAny(c, "\n\r") {
				continue
			}
		}
		return errs.New(errs.Invalid, "%q is not a valid change command", c)
	}
	return nil
}

// withChanges builds the instructions of --change on top of an image and gives name to the result.
func (s *Server) withChanges(ctx context.Context, img image.Image, changes []string, name string) (image.Image, error) {
	if len(changes) == 0 {
		return img, nil
	}
	req := build.Request{Source: []byte("FROM " + img.ID.String() + "\n" + strings.Join(changes, "\n") + "\n"), Dockerfile: "--change"}
	if name != "" {
		req.Tags = []string{name}
	}
	return s.Builder.Build(ctx, req)
}
