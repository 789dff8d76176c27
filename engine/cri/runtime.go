// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"net/netip"
	"runtime"
	"strings"

	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/internal/errs"
)

const (
	runtimeName    = "knarr"
	kubeletVersion = "0.1.0" // what the interface's Version has always said of itself
	apiVersion     = "v1"
)

// Version says who answers.
func (s *Server) Version(context.Context, *pb.VersionRequest) (*pb.VersionResponse, error) {
	return &pb.VersionResponse{Version: kubeletVersion, RuntimeName: runtimeName, RuntimeVersion: s.Config.Version, RuntimeApiVersion: apiVersion}, nil
}

// Status says what the runtime can do. It answers at all only when the engine and its networks are open.
func (s *Server) Status(_ context.Context, r *pb.StatusRequest) (*pb.StatusResponse, error) {
	out := &pb.StatusResponse{
		Status: &pb.RuntimeStatus{Conditions: []*pb.RuntimeCondition{
			{Type: pb.RuntimeReady, Status: true}, {Type: pb.NetworkReady, Status: true},
		}},
		RuntimeHandlers: []*pb.RuntimeHandler{{Features: &pb.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true}}},
		Features:        &pb.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}
	if r.GetVerbose() {
		out.Info = map[string]string{"network": s.Networks.PodNetwork(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
	}
	return out, nil
}

// UpdateRuntimeConfig gives the pods' network the node's range. Of two, the IPv4 one counts: pods have one address each.
func (s *Server) UpdateRuntimeConfig(ctx context.Context, r *pb.UpdateRuntimeConfigRequest) (*pb.UpdateRuntimeConfigResponse, error) {
	text := r.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	for _, one := range strings.Split(text, ",") {
		if one == "" {
			continue
		}
		cidr, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err != nil {
			return nil, errs.New(errs.Invalid, "pod_cidr %q: %w", text, err)
		}
		if cidr.Addr().Is4() {
			return &pb.UpdateRuntimeConfigResponse{}, s.Networks.SetPodCIDR(ctx, cidr.Masked())
		}
	}
	return &pb.UpdateRuntimeConfigResponse{}, nil
}

// RuntimeConfig says which cgroup driver a kubelet must use.
func (s *Server) RuntimeConfig(context.Context, *pb.RuntimeConfigRequest) (*pb.RuntimeConfigResponse, error) {
	return &pb.RuntimeConfigResponse{Linux: &pb.LinuxRuntimeConfiguration{CgroupDriver: pb.CgroupDriver_CGROUPFS}}, nil
}
