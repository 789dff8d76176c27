// SPDX-License-Identifier: Apache-2.0

// Package auth says who is asking and what they may do: the cluster's certificate authority, client certificates,
// ServiceAccount tokens, and the authorizers (system:masters, Node, RBAC).
package auth

// Authority has the cluster's keys: it issues certificates and tokens, and verifies them.
type Authority struct{}
