// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/sys/unix"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// ListImages lists all that are no build step's, or the one that the filter names.
func (s *Server) ListImages(_ context.Context, r *pb.ListImagesRequest) (*pb.ListImagesResponse, error) {
	out := &pb.ListImagesResponse{}
	if ref := r.GetFilter().GetImage().GetImage(); ref != "" {
		img, err := s.Images.Get(ref)
		if err == nil {
			out.Images = append(out.Images, imageOf(img))
		} else if !missing(err) {
			return nil, err
		}
		return out, nil
	}
	for _, img := range s.Images.List() {
		if !img.Cache {
			out.Images = append(out.Images, imageOf(img))
		}
	}
	return out, nil
}

// ImageStatus tells one; none when it is not here.
func (s *Server) ImageStatus(_ context.Context, r *pb.ImageStatusRequest) (*pb.ImageStatusResponse, error) {
	img, err := s.Images.Get(r.GetImage().GetImage())
	if missing(err) {
		return &pb.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &pb.ImageStatusResponse{Image: imageOf(img)}
	if r.GetVerbose() {
		text, err := json.Marshal(map[string]any{"imageSpec": img.Config, "layers": img.Layers})
		if err != nil {
			return nil, err
		}
		out.Info = map[string]string{"info": string(text)}
	}
	return out, nil
}

func imageOf(img image.Image) *pb.Image {
	out := &pb.Image{
		Id: img.ID.String(), RepoTags: spelled(img.Names), RepoDigests: spelled(img.RepoDigests), Size: uint64(img.Size),
		Spec: &pb.ImageSpec{Image: img.ID.String()},
	}
	user, _, _ := strings.Cut(img.Config.Config.User, ":")
	if uid, err := strconv.ParseInt(user, 10, 64); err == nil {
		out.Uid = &pb.Int64Value{Value: uid}
	} else {
		out.Username = user
	}
	return out
}

// spelled writes names in full: "web:1" is docker.io/library/web:1 to Kubernetes.
func spelled(familiar []string) []string {
	out := make([]string, 0, len(familiar))
	for _, f := range familiar {
		if n, err := reference.ParseNormalizedNamed(f); err == nil {
			f = n.String()
		}
		out = append(out, f)
	}
	return out
}

// PullImage fetches an image. One that was built, loaded or committed here has this store as its origin: it is here already.
func (s *Server) PullImage(ctx context.Context, r *pb.PullImageRequest) (*pb.PullImageResponse, error) {
	ref := r.GetImage().GetImage()
	if ref == "" {
		return nil, errs.New(errs.Invalid, "no image named")
	}
	if img, err := s.Images.Get(ref); err == nil && img.Local {
		return &pb.PullImageResponse{ImageRef: img.ID.String()}, nil
	}
	auth, err := authOf(r.GetAuth())
	if err != nil {
		return nil, err
	}
	img, err := s.Images.Pull(ctx, ref, image.PullOptions{Auth: auth})
	if err != nil {
		return nil, err
	}
	return &pb.PullImageResponse{ImageRef: img.ID.String()}, nil
}

// authOf reads what a kubelet hands on of a pull secret.
func authOf(a *pb.AuthConfig) (image.Auth, error) {
	out := image.Auth{Username: a.GetUsername(), Password: a.GetPassword(), IdentityToken: a.GetIdentityToken(), RegistryToken: a.GetRegistryToken()}
	if text := a.GetAuth(); text != "" && out == (image.Auth{}) {
		pair, err := base64.StdEncoding.DecodeString(text)
		user, password, ok := strings.Cut(string(pair), ":")
		if err != nil || !ok {
			return out, errs.New(errs.Invalid, `auth is not the base64 form of "user:password"`)
		}
		out.Username, out.Password = user, strings.TrimRight(password, "\x00")
	}
	return out, nil
}

// RemoveImage removes an image with all its names, whichever of them was said. Not here is no error; one whose containers
// run stays.
func (s *Server) RemoveImage(ctx context.Context, r *pb.RemoveImageRequest) (*pb.RemoveImageResponse, error) {
	img, err := s.Images.Get(r.GetImage().GetImage())
	if err == nil {
		_, err = s.Images.Remove(ctx, img.ID.String(), image.RemoveOptions{Force: true, InUse: s.Containers.ImageUsers, Running: s.Containers.ImageUsers})
	}
	if err != nil && !missing(err) {
		return nil, err
	}
	return &pb.RemoveImageResponse{}, nil
}

// ImageFsInfo says what images and containers take of the disk.
func (s *Server) ImageFsInfo(context.Context, *pb.ImageFsInfoRequest) (*pb.ImageFsInfoResponse, error) {
	u, err := s.Images.Usage()
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.Images.Dir(), &st); err != nil {
		return nil, fmt.Errorf("ask the file system of %s: %w", s.Images.Dir(), err)
	}
	fs := &pb.FilesystemUsage{
		Timestamp: time.Now().UnixNano(), FsId: &pb.FilesystemIdentifier{Mountpoint: filepath.Clean(s.Images.Dir())},
		UsedBytes: value(uint64(u.LayerBytes + u.BlobBytes)), InodesUsed: value(st.Files - st.Ffree),
	}
	return &pb.ImageFsInfoResponse{ImageFilesystems: []*pb.FilesystemUsage{fs}, ContainerFilesystems: []*pb.FilesystemUsage{fs}}, nil
}
