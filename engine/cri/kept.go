// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A sandbox's or container's Request is {"cri": <its config>}: no other API's begins so, and that is how ours are told apart.
const keptPrefix = `{"cri":`

func keep(m proto.Message) (json.RawMessage, error) {
	body, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("remember the request: %w", err)
	}
	return append(append([]byte(keptPrefix), body...), '}'), nil
}

// recall reads what keep wrote; false: it was not made through this interface.
func recall(data json.RawMessage, m proto.Message) bool {
	var compact bytes.Buffer
	if len(data) == 0 || json.Compact(&compact, data) != nil {
		return false
	}
	body, ours := bytes.CutPrefix(compact.Bytes(), []byte(keptPrefix))
	if !ours {
		return false
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(body[:len(body)-1], m) == nil
}

// containerToKeep leaves out what the engine's own record has, secrets in the environment above all.
func containerToKeep(c *pb.ContainerConfig) *pb.ContainerConfig {
	return &pb.ContainerConfig{
		Metadata: c.Metadata, Image: c.Image, Labels: c.Labels, Annotations: c.Annotations, Mounts: c.Mounts,
		LogPath: c.LogPath, StopSignal: c.StopSignal,
	}
}
