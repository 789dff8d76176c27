// SPDX-License-Identifier: Apache-2.0

// Package version says which Knarr this is and which Kubernetes and Docker API versions it speaks. Constants only; the
// linker sets Version.
package version

// Version is the build's own version, set by the linker (-X); "dev" for a plain go build.
var Version = "dev"

// What the wire says.
const (
	Kubernetes = "v1.37.2" // the release whose API types and behaviour Knarr follows
	Major      = "1"
	Minor      = "37"

	DockerAPI    = "1.56" // the newest Docker Engine API version that is served
	DockerAPIMin = "1.24" // the oldest
)
