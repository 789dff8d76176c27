// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

const formatVersion = 1

// record is container.json: what a container is. It changes only by Rename, Update, Connect and Disconnect.
type record struct {
	Version    int                    `json:"version"`
	ID         string                 `json:"id"`
	Created    time.Time              `json:"created"`
	Spec       Spec                   `json:"spec"`
	ImageID    digest.Digest          `json:"imageID"`
	Config     image.ContainerConfig  `json:"config"`
	Args       []string               `json:"args"`
	StopSignal string                 `json:"stopSignal"`
	Mounts     []MountPoint           `json:"mounts,omitempty"`
	Networks   map[string]NetworkSpec `json:"networks,omitempty"` // further ones, by name; see Connect
	Anonymous  []string               `json:"anonymousVolumes,omitempty"`
	LogPath    string                 `json:"logPath"`
}

// status is state.json: how a container is. It is written before its program runs and after it has ended.
type status struct {
	Version    int                 `json:"version"`
	State      State               `json:"state"`
	Pid        int                 `json:"pid,omitempty"`
	StartedAt  time.Time           `json:"startedAt,omitzero"`
	FinishedAt time.Time           `json:"finishedAt,omitzero"`
	ExitCode   int                 `json:"exitCode"`
	Signal     int                 `json:"signal,omitempty"`
	OOMKilled  bool                `json:"oomKilled,omitempty"`
	Error      string              `json:"error,omitempty"`
	Restarts   int                 `json:"restarts,omitempty"`
	Backoff    time.Duration       `json:"backoff,omitempty"` // nanoseconds before the last restart
	Stopped    bool                `json:"stopped,omitempty"` // somebody asked for the end; unless-stopped heeds it
	Cgroup     string              `json:"cgroup,omitempty"`
	Netns      string              `json:"netns,omitempty"`
	Endpoints  map[string]Endpoint `json:"endpoints,omitempty"`
}

const (
	recordFile  = "container.json"
	statusFile  = "state.json"
	sandboxFile = "sandbox.json"
	makingFile  = "making.json" // present until container.json is: anonymous volumes to take back
	removeFile  = "remove.json" // present from the moment on when removal cannot be called off
)

// lasting says whether a container's files must survive a power cut. Those that go by themselves, and those of pods, which
// lose their sandbox with the reboot, need only survive the daemon.
func (r *record) lasting() bool { return !r.Spec.AutoRemove && r.Spec.Sandbox == "" }

func save(dir, name string, v any, lasting bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	write := atomicfile.WriteVolatile
	if lasting {
		write = atomicfile.Write
	}
	return write(filepath.Join(dir, name), append(data, '\n'), 0o600)
}

// load reads a file of this format's version.
func load[T any](dir, name string, version func(*T) int) (T, error) {
	var v T
	if err := atomicfile.ReadJSON(filepath.Join(dir, name), &v); err != nil {
		return v, err
	}
	if got := version(&v); got != formatVersion {
		return v, errs.New(errs.Unsupported, "%s: format version %d is not known", filepath.Join(dir, name), got)
	}
	return v, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
