// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package compose pins the release of docker compose that the tests of this module's parent drive Knarr with. It is a module of
// its own, so that none of compose's dependencies become Knarr's.
package compose

import _ "github.com/docker/compose/v2/cmd"
