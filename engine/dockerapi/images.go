// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	dimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/storage"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

func (s *Server) imageList(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "label", "label!", "reference", "before", "since", "until")
	if err != nil {
		return err
	}
	window, err := s.imageWindow(f)
	if err != nil {
		return err
	}
	out := []dimage.Summary{}
	list := s.Images.List()
	parents := map[digest.Digest]bool{} // what others were made from is no refuse
	for _, img := range list {
		parents[img.Parent] = true
	}
	var shared map[digest.Digest]int64
	if truth(r, "shared-size") {
		shared = s.Images.SharedSizes()
	}
	for _, img := range list {
		hidden := img.Cache || img.Dangling() && parents[img.ID]
		if !truth(r, "all") && hidden || !window(img) || !imageListed(&img, f) {
			continue
		}
		sum := s.imageSummary(img)
		if shared != nil {
			sum.SharedSize = shared[img.ID]
		}
		out = append(out, sum)
	}
	return writeJSON(w, http.StatusOK, out)
}

// imageWindow reads the filters about when an image was made: before and since name images, until is a time.
func (s *Server) imageWindow(f filters) (func(image.Image) bool, error) {
	var before, since time.Time
	for _, edge := range []struct {
		name string
		into *time.Time
	}{{"before", &before}, {"since", &since}} {
		for _, ref := range f[edge.name] {
			img, err := s.Images.Get(ref)
			if err != nil {
				return nil, err
			}
			*edge.into = img.Created
		}
	}
	until, err := f.until(time.Now())
	if err != nil {
		return nil, err
	}
	return func(img image.Image) bool {
		return (before.IsZero() || img.Created.Before(before)) && (since.IsZero() || img.Created.After(since)) && (until.IsZero() || img.Created.Before(until))
	}, nil
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

// imageListed says whether the filters about names and labels let an image through. Of one that the filter reference lets
// through by some of its names, only these are left.
func imageListed(img *image.Image, f filters) bool {
	if !f.labels(img.Config.Config.Labels) || f["dangling"] != nil && f.flag("dangling", false) != (len(img.Names) == 0) {
		return false
	}
	if f["reference"] == nil {
		return true
	}
	fits := func(n string) bool { return f.any("reference", func(v string) bool { return referenceFits(v, n) }) }
	img.Names = slices.DeleteFunc(slices.Clone(img.Names), func(n string) bool { return !fits(n) })
	img.RepoDigests = slices.DeleteFunc(slices.Clone(img.RepoDigests), func(n string) bool { return !fits(n) })
	return len(img.Names)+len(img.RepoDigests) > 0
}

// referenceFits matches a pattern with a name as people type it, with or without its tag or digest.
func referenceFits(pattern, name string) bool {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	ok, err := reference.FamiliarMatch(pattern, n)
	if err != nil || ok {
		return ok
	}
	ok, _ = reference.FamiliarMatch(pattern, reference.TrimNamed(n)) // the pattern was found well-formed
	return ok
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
	if p := r.URL.Query().Get("platform"); p != "" {
		if err := checkPlatform(img, p); err != nil {
			return err
		}
	}
	out := inspectedImage{InspectResponse: dimage.InspectResponse{
		ID: img.ID.String(), RepoTags: orEmpty(img.Names), RepoDigests: orEmpty(img.RepoDigests), Author: img.Config.Author,
		Created: stamp(img.Created), Config: &img.Config.Config, Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS,
		OsVersion: img.Config.OSVersion, Size: img.Size, RootFS: dimage.RootFS{Type: "layers"}, Metadata: dimage.Metadata{LastTagTime: img.Tagged},
		GraphDriver: imageDriver(s.Images.LayerDirs(img)),
	}, Parent: img.Parent.String()}
	for _, l := range img.Layers {
		out.RootFS.Layers = append(out.RootFS.Layers, l.String())
	}
	if n := len(img.Config.History); n > 0 {
		out.Comment = img.Config.History[n-1].Comment
	}
	return writeJSON(w, http.StatusOK, out)
}

// inspectedImage has what older clients read beside today's members.
type inspectedImage struct {
	dimage.InspectResponse
	Parent string
}

// imageDriver is where the image's layers lie, in the members of Docker's overlay2: the topmost as the upper one.
func imageDriver(dirs []string) *storage.DriverData {
	d := &storage.DriverData{Name: "overlay2", Data: map[string]string{}}
	if len(dirs) > 0 {
		d.Data["UpperDir"] = dirs[0]
	}
	if len(dirs) > 1 {
		d.Data["LowerDir"] = strings.Join(dirs[1:], ":")
	}
	return d
}

// checkPlatform refuses an image that is not for a platform, given as JSON or as os/architecture[/variant].
func checkPlatform(img image.Image, text string) error {
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(text), &p); err == nil {
		text = p.OS + "/" + p.Architecture
		if p.Variant != "" {
			text += "/" + p.Variant
		}
	}
	ok, err := img.Fits(text)
	if err != nil {
		return err
	}
	if !ok {
		return errs.New(errs.NotFound, "image with reference %s was found but does not provide the specified platform (%s): it is for %s", short(img), text, img.Platform())
	}
	return nil
}

func short(img image.Image) string {
	if len(img.Names) > 0 {
		return img.Names[0]
	}
	return img.ID.Encoded()[:12]
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
	removed, err := s.Images.Remove(r.Context(), r.PathValue("name"), image.RemoveOptions{
		Force: truth(r, "force"), NoPrune: truth(r, "noprune"), InUse: s.Containers.ImageUsers, Running: s.runningUsers,
	})
	if err != nil {
		return err
	}
	s.publishRemoved(removed)
	return writeJSON(w, http.StatusOK, deleted(removed))
}

func (s *Server) publishRemoved(removed []image.Removed) {
	for _, x := range removed {
		if x.Untagged != "" {
			s.publishImage("untag", x.Untagged)
		} else {
			s.publish("image", "delete", x.Deleted.String())
		}
	}
}

// runningUsers are the running containers made from an image.
func (s *Server) runningUsers(id digest.Digest) (out []string) {
	for _, c := range s.Containers.List() {
		if running(c) && slices.Contains(s.Containers.ImageUsers(id), c.ID) {
			out = append(out, c.ID)
		}
	}
	return out
}

func deleted(removed []image.Removed) []dimage.DeleteResponse {
	out := []dimage.DeleteResponse{}
	for _, x := range removed {
		out = append(out, dimage.DeleteResponse{Untagged: x.Untagged, Deleted: x.Deleted.String()})
	}
	return out
}

func (s *Server) imagePrune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.until(time.Now())
	if err != nil {
		return err
	}
	removed, freed, err := s.Images.Prune(r.Context(), image.PruneOptions{
		All: !f.flag("dangling", true), InUse: s.Containers.ImageUsers, Keep: func(i image.Image) bool {
			return !f.labels(i.Config.Config.Labels) || !until.IsZero() && !i.Created.Before(until)
		},
	})
	if err != nil {
		return err
	}
	s.publishRemoved(removed)
	s.publish("image", "prune", "")
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
	img, err := s.Images.Import(r.Context(), r.Body, image.ImportOptions{Name: unlessChanged(name, q["changes"]), Message: q.Get("message"), Platform: q.Get("platform")})
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

func (s *Server) imageLoad(w http.ResponseWriter, r *http.Request) error {
	m := newMessages(w)
	o := image.LoadOptions{Progress: m.progress}
	if truth(r, "quiet") {
		o.Progress = nil
	}
	var err error
	if o.Platform, err = onePlatform(r); err != nil {
		return err
	}
	imgs, err := s.Images.Load(r.Context(), r.Body, o)
	for _, img := range imgs {
		s.publish("image", "load", img.ID.String())
		if len(img.Loaded) == 0 {
			io.WriteString(m, "Loaded image ID: "+img.ID.String()+"\n")
		}
		for _, n := range img.Loaded {
			io.WriteString(m, "Loaded image: "+n+"\n")
		}
	}
	return m.end(err)
}

// onePlatform reads the platform parameter of save and load: JSON, at most one.
func onePlatform(r *http.Request) (string, error) {
	list := r.URL.Query()["platform"]
	if len(list) == 0 || list[0] == "" {
		return "", nil
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(list[0]), &p); err != nil || len(list) > 1 {
		return "", errs.New(errs.Invalid, "parameter platform: want one platform as JSON: an image here is for one")
	}
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text, nil
}

func (s *Server) imageSave(w http.ResponseWriter, r *http.Request) error {
	refs := r.URL.Query()["names"]
	if n := r.PathValue("name"); n != "" {
		refs = []string{n}
	}
	if len(refs) == 0 {
		return errs.New(errs.Invalid, "save: no image was named")
	}
	platform, err := onePlatform(r)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		img, err := s.Images.Get(ref)
		if errors.Is(err, errs.NotFound) {
			if _, terr := s.Images.Tagged(ref); terr == nil { // a repository without the tag latest
				continue
			}
		}
		if err == nil && platform != "" {
			err = checkPlatform(img, platform)
		}
		if err != nil {
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
		Name: unlessChanged(name, q["changes"]), Author: q.Get("author"), Message: q.Get("comment"), Config: changedConfig(cfg), NoPause: q.Has("pause") && !truth(r, "pause"),
	})
	if err != nil {
		return err
	}
	if img, err = s.withChanges(r.Context(), img, q["changes"], name); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, map[string]string{"Id": img.ID.String()})
}

// unlessChanged leaves the name to the image that the changes make.
func unlessChanged(name string, changes []string) string {
	if len(changes) > 0 {
		return ""
	}
	return name
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

// withChanges lays the instructions of --change over an image's configuration and gives name to the result. It has img's layers
// and history; img itself, which has no name, goes.
func (s *Server) withChanges(ctx context.Context, img image.Image, changes []string, name string) (image.Image, error) {
	if len(changes) == 0 {
		return img, nil
	}
	req := build.Request{Source: []byte("FROM " + img.ID.String() + "\n" + strings.Join(changes, "\n") + "\n"), Dockerfile: "--change"}
	built, err := s.Builder.Build(ctx, req)
	if err != nil {
		return image.Image{}, errors.Join(err, s.forget(ctx, img))
	}
	spec := img.Config
	spec.Config = built.Config.Config
	var names []string
	if name != "" {
		names = []string{name}
	}
	out, err := s.Images.Put(ctx, image.PutOptions{Base: img, Config: spec, Names: names})
	if err == nil && built.ID != out.ID {
		err = s.forget(ctx, built)
	}
	return out, err
}

// forget removes an image that was only a step. One that something else has got hold of stays.
func (s *Server) forget(ctx context.Context, img image.Image) error {
	_, err := s.Images.Remove(ctx, img.ID.String(), image.RemoveOptions{InUse: s.Containers.ImageUsers})
	if errors.Is(err, errs.Conflict) || errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}
