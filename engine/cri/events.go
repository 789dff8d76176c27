// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"time"

	"google.golang.org/grpc"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
)

// typeSandbox marks the events of sandboxes among the engine's.
const typeSandbox = "sandbox"

// tell publishes what happened to a sandbox, in the words of containers.
func (s *Server) tell(id, action string) {
	s.Containers.Publish(container.Event{Type: typeSandbox, Action: action, ID: id, Attributes: map[string]string{labelSandbox: id}})
}

// eventType is the interface's word for an engine's action; false: it has none.
func eventType(action string) (pb.ContainerEventType, bool) {
	switch action {
	case "create":
		return pb.ContainerEventType_CONTAINER_CREATED_EVENT, true
	case "start":
		return pb.ContainerEventType_CONTAINER_STARTED_EVENT, true
	case "die":
		return pb.ContainerEventType_CONTAINER_STOPPED_EVENT, true
	case "destroy":
		return pb.ContainerEventType_CONTAINER_DELETED_EVENT, true
	}
	return 0, false
}

// GetContainerEvents tells what happens to sandboxes and containers from the call on, each with its pod as it is by then. A
// reader that falls far behind is cut off, and looks at everything anew.
func (s *Server) GetContainerEvents(_ *pb.GetEventsRequest, to grpc.ServerStreamingServer[pb.ContainerEventResponse]) error {
	events := s.Containers.Events(to.Context(), time.Time{})
	if err := to.SendHeader(nil); err != nil { // who has the header misses nothing from then on
		return err
	}
	for ev, err := range events {
		if err != nil {
			return err
		}
		typ, known := eventType(ev.Action)
		pod := ev.Attributes[labelSandbox]
		if !known || pod == "" || ev.Type != typeSandbox && ev.Type != "container" {
			continue
		}
		if err := to.Send(s.event(ev, typ, pod)); err != nil {
			return err
		}
	}
	return to.Context().Err()
}

func (s *Server) event(ev container.Event, typ pb.ContainerEventType, pod string) *pb.ContainerEventResponse {
	out := &pb.ContainerEventResponse{ContainerId: ev.ID, ContainerEventType: typ, CreatedAt: ev.Time.UnixNano()}
	b, err := s.sandbox(pod)
	if err != nil {
		return out // it is gone
	}
	out.PodSandboxStatus = b.status()
	for _, c := range s.containers() {
		if c.Spec.Sandbox == b.Spec.ID {
			out.ContainersStatuses = append(out.ContainersStatuses, s.status(c))
		}
	}
	return out
}
