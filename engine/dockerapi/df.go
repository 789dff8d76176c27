// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"time"

	dbuild "github.com/moby/moby/api/types/build"
	dcontainer "github.com/moby/moby/api/types/container"
	dimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	dvolume "github.com/moby/moby/api/types/volume"

	"github.com/knarr/knarr/engine/container"
)

// usage is the answer of docker system df, in the form that all clients up to API 1.51 read.
type usage struct {
	LayersSize int64
	Images     []dimage.Summary
	Containers []dcontainer.Summary
	Volumes    []dvolume.Volume
	BuildCache []dbuild.CacheRecord // folders of cache mounts; cached steps are images
}

func (s *Server) diskUsage(w http.ResponseWriter, r *http.Request) error {
	wants := r.URL.Query()["type"]
	want := func(typ string) bool {
		for _, t := range wants {
			if t == typ {
				return true
			}
		}
		return len(wants) == 0
	}
	out := usage{Images: []dimage.Summary{}, Containers: []dcontainer.Summary{}, Volumes: []dvolume.Volume{}, BuildCache: []dbuild.CacheRecord{}}
	if want("image") {
		u, err := s.Images.Usage()
		if err != nil {
			return err
		}
		out.LayersSize = u.LayerBytes + u.BlobBytes // both are on disk: it sums to what du says
		for _, img := range s.Images.List() {
			out.Images = append(out.Images, s.imageSummary(img))
		}
	}
	if want("container") {
		now := time.Now()
		for _, c := range s.Containers.List() {
			sum := s.summary(c, now)
			var err error
			if sum.SizeRw, sum.SizeRootFs, err = s.Containers.Size(c.ID); err != nil {
				continue // it was removed meanwhile
			}
			out.Containers = append(out.Containers, sum)
		}
	}
	if want("volume") {
		for _, v := range s.Volumes.List() {
			view := s.volumeView(v)
			view.UsageData = &dvolume.UsageData{RefCount: int64(len(s.Volumes.Users(v.Name))), Size: folderSize(r.Context(), view.Mountpoint)}
			out.Volumes = append(out.Volumes, view)
		}
	}
	if want("build-cache") {
		var err error
		if out.BuildCache, err = s.cacheRecords(); err != nil {
			return err
		}
	}
	if before(r, "1.52") {
		return writeJSON(w, http.StatusOK, out)
	}
	return writeJSON(w, http.StatusOK, s.usageView(out, want, truth(r, "verbose")))
}

// usageView sums up as clients since API 1.52 read it; each object only with verbose.
func (s *Server) usageView(u usage, want func(string) bool, verbose bool) system.DiskUsage {
	var out system.DiskUsage
	if want("image") {
		v := &dimage.DiskUsage{TotalCount: int64(len(u.Images)), TotalSize: u.LayersSize, Reclaimable: u.LayersSize}
		for _, i := range u.Images {
			if i.Containers > 0 {
				v.ActiveCount++
				v.Reclaimable -= max(0, i.Size-max(0, i.SharedSize))
			}
		}
		v.Reclaimable = max(0, v.Reclaimable)
		out.ImageUsage = v
		if verbose {
			v.Items = u.Images
		}
	}
	if want("container") {
		v := &dcontainer.DiskUsage{TotalCount: int64(len(u.Containers))}
		for _, c := range u.Containers {
			v.TotalSize += c.SizeRw
			switch c.State {
			case dcontainer.StateRunning, dcontainer.StatePaused, dcontainer.StateRestarting:
				v.ActiveCount++
			default:
				v.Reclaimable += c.SizeRw
			}
		}
		out.ContainerUsage = v
		if verbose {
			v.Items = u.Containers
		}
	}
	if want("volume") {
		v := &dvolume.DiskUsage{TotalCount: int64(len(u.Volumes))}
		for _, o := range u.Volumes {
			size := max(0, o.UsageData.Size)
			v.TotalSize += size
			if o.UsageData.RefCount > 0 {
				v.ActiveCount++
			} else {
				v.Reclaimable += size
			}
		}
		out.VolumeUsage = v
		if verbose {
			v.Items = u.Volumes
		}
	}
	if want("build-cache") {
		v := &dbuild.DiskUsage{TotalCount: int64(len(u.BuildCache))}
		for _, c := range u.BuildCache {
			v.TotalSize += c.Size
			if c.InUse {
				v.ActiveCount++
			} else {
				v.Reclaimable += c.Size
			}
		}
		if out.BuildCacheUsage = v; verbose {
			v.Items = u.BuildCache
		}
	}
	return out
}

// folderSize adds up the regular files below dir; -1 when it cannot be read. What is inside belongs to containers: links
// are not followed, not even by a race.
func folderSize(ctx context.Context, dir string) int64 {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return -1
	}
	defer root.Close()
	total := int64(0)
	err = fs.WalkDir(root.FS(), ".", func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil // it vanished
		}
		if st, err := d.Info(); err == nil && st.Mode().IsRegular() {
			total += st.Size()
		}
		return nil
	})
	if err != nil {
		return -1
	}
	return total
}

// running says whether a container counts as active.
func running(c container.Container) bool {
	return c.State == container.Running || c.State == container.Paused || c.State == container.Restarting
}
