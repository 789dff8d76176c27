// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"

	"github.com/knarr/knarr/internal/errs"
)

// fsck is not Docker's: the engine's broken invariants, one sentence each.
func (s *Server) fsck(w http.ResponseWriter, r *http.Request) error {
	if s.Check == nil {
		return errs.New(errs.Unsupported, "this daemon has no checks")
	}
	problems, err := s.Check(r.Context(), truth(r, "deep"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string][]string{"problems": problems})
}
