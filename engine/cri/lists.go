// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"slices"

	"google.golang.org/grpc"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// chunk is how many items go into one message of a streamed list: far below the bound of a message.
const chunk = 256

// send streams a list in messages that wrap makes.
func send[T, M any](list []T, to grpc.ServerStreamingServer[M], wrap func([]T) *M) error {
	for part := range slices.Chunk(list, chunk) {
		if err := to.Send(wrap(part)); err != nil {
			return err
		}
	}
	return nil
}

// StreamPodSandboxes is ListPodSandbox in parts.
func (s *Server) StreamPodSandboxes(r *pb.StreamPodSandboxesRequest, to grpc.ServerStreamingServer[pb.StreamPodSandboxesResponse]) error {
	all, err := s.ListPodSandbox(to.Context(), &pb.ListPodSandboxRequest{Filter: r.GetFilter()})
	if err != nil {
		return err
	}
	return send(all.Items, to, func(p []*pb.PodSandbox) *pb.StreamPodSandboxesResponse {
		return &pb.StreamPodSandboxesResponse{PodSandboxes: p}
	})
}

// StreamContainers is ListContainers in parts.
func (s *Server) StreamContainers(r *pb.StreamContainersRequest, to grpc.ServerStreamingServer[pb.StreamContainersResponse]) error {
	all, err := s.ListContainers(to.Context(), &pb.ListContainersRequest{Filter: r.GetFilter()})
	if err != nil {
		return err
	}
	return send(all.Containers, to, func(p []*pb.Container) *pb.StreamContainersResponse {
		return &pb.StreamContainersResponse{Containers: p}
	})
}

// StreamContainerStats is ListContainerStats in parts.
func (s *Server) StreamContainerStats(r *pb.StreamContainerStatsRequest, to grpc.ServerStreamingServer[pb.StreamContainerStatsResponse]) error {
	all, err := s.ListContainerStats(to.Context(), &pb.ListContainerStatsRequest{Filter: r.GetFilter()})
	if err != nil {
		return err
	}
	return send(all.Stats, to, func(p []*pb.ContainerStats) *pb.StreamContainerStatsResponse {
		return &pb.StreamContainerStatsResponse{ContainerStats: p}
	})
}

// StreamPodSandboxStats is ListPodSandboxStats in parts.
func (s *Server) StreamPodSandboxStats(r *pb.StreamPodSandboxStatsRequest, to grpc.ServerStreamingServer[pb.StreamPodSandboxStatsResponse]) error {
	all, err := s.ListPodSandboxStats(to.Context(), &pb.ListPodSandboxStatsRequest{Filter: r.GetFilter()})
	if err != nil {
		return err
	}
	return send(all.Stats, to, func(p []*pb.PodSandboxStats) *pb.StreamPodSandboxStatsResponse {
		return &pb.StreamPodSandboxStatsResponse{PodSandboxStats: p}
	})
}

// StreamPodSandboxMetrics is ListPodSandboxMetrics in parts.
func (s *Server) StreamPodSandboxMetrics(_ *pb.StreamPodSandboxMetricsRequest, to grpc.ServerStreamingServer[pb.StreamPodSandboxMetricsResponse]) error {
	all, err := s.ListPodSandboxMetrics(to.Context(), &pb.ListPodSandboxMetricsRequest{})
	if err != nil {
		return err
	}
	return send(all.PodMetrics, to, func(p []*pb.PodSandboxMetrics) *pb.StreamPodSandboxMetricsResponse {
		return &pb.StreamPodSandboxMetricsResponse{PodSandboxMetrics: p}
	})
}

// StreamImages is ListImages in parts.
func (s *Server) StreamImages(r *pb.StreamImagesRequest, to grpc.ServerStreamingServer[pb.StreamImagesResponse]) error {
	all, err := s.ListImages(to.Context(), &pb.ListImagesRequest{Filter: r.GetFilter()})
	if err != nil {
		return err
	}
	return send(all.Images, to, func(p []*pb.Image) *pb.StreamImagesResponse {
		return &pb.StreamImagesResponse{Images: p}
	})
}
