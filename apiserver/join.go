// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/state/cache"
)

// Paths by which a machine becomes a node. The first needs no credentials: what it gives is public, and the join token says
// whether it is the right one.
const (
	PathCA   = "/knarr/v1/ca"
	PathJoin = "/knarr/v1/join"
)

// JoinRequest is the body of POST /knarr/v1/join: with the join token, or with the node's own certificate to renew it.
type JoinRequest struct {
	Node      string       `json:"node"`
	Addresses []netip.Addr `json:"addresses"`
	Client    []byte       `json:"client"` // PKCS #10, PEM
	Server    []byte       `json:"server"` // PKCS #10, PEM
}

// JoinResponse is what a node needs to work.
type JoinResponse struct {
	CA            []byte       `json:"ca"`     // PEM
	Client        []byte       `json:"client"` // PEM
	Server        []byte       `json:"server"` // PEM
	ClusterCIDR   netip.Prefix `json:"clusterCIDR"`
	ServiceCIDR   netip.Prefix `json:"serviceCIDR"`
	ClusterDomain string       `json:"clusterDomain"`
}

// maxJoin bounds the body: two requests of one key each.
const maxJoin = 64 << 10

func (s *Server) serveJoin(w http.ResponseWriter, r *http.Request, u auth.User) error {
	if r.Method != http.MethodPost {
		return apierrors.NewMethodNotSupported(corev1.Resource("nodes"), strings.ToLower(r.Method))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJoin))
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	var req JoinRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return apierrors.NewBadRequest("read the request to join: " + err.Error())
	}
	if err := s.mayJoin(req, u); err != nil {
		return err
	}
	addresses := make([]string, 0, len(req.Addresses))
	for _, a := range req.Addresses {
		addresses = append(addresses, a.String())
	}
	out := JoinResponse{CA: s.authority.CA(), ClusterCIDR: s.cfg.ClusterCIDR, ServiceCIDR: s.cfg.ServiceCIDR, ClusterDomain: s.cfg.ClusterDomain}
	if out.Client, out.Server, err = s.authority.SignNode(req.Node, addresses, req.Client, req.Server); err != nil {
		return err
	}
	s.log.Info("signed the certificates of a node", "node", req.Node, "for", u.Name, "from", r.RemoteAddr)
	return sendJSON(w, r, out)
}

// mayJoin: a node renews its own name only; a joiner takes no name of a node that lives, which it could rob of its Secrets.
func (s *Server) mayJoin(req JoinRequest, u auth.User) error {
	if faults := validation.IsDNS1123Subdomain(req.Node); len(faults) > 0 {
		return apierrors.NewBadRequest("node name " + req.Node + ": " + strings.Join(faults, "; "))
	}
	for _, a := range req.Addresses {
		if !a.IsValid() || !a.IsGlobalUnicast() {
			return apierrors.NewBadRequest("address " + a.String() + " is none that others can reach")
		}
	}
	if len(req.Addresses) == 0 || len(req.Addresses) > 8 {
		return apierrors.NewBadRequest("want one to eight addresses of the node")
	}
	if own, ok := auth.NodeName(u); ok && own != req.Node {
		return apierrors.NewForbidden(corev1.Resource("nodes"), req.Node, errOtherNode)
	} else if ok {
		return nil
	}
	n, ok := cache.Get[corev1.Node](s.cache.Snapshot(), "", req.Node)
	if !ok {
		return nil
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return apierrors.NewConflict(corev1.Resource("nodes"), req.Node, errNodeLives)
		}
	}
	return nil
}

const (
	errOtherNode = joinError("a node may renew its own certificates only")
	errNodeLives = joinError("a node of this name is ready; join under another name (--node-name), or stop that node first")
)

type joinError string

func (e joinError) Error() string { return string(e) }
