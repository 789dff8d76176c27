// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"testing"

	"github.com/knarr/knarr/state/store"
	"github.com/knarr/knarr/state/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Suite{Open: func(*testing.T, string) store.Store { return New() }})
}
