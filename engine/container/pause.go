// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"

	"github.com/knarr/knarr/internal/errs"
)

var errSoon = errs.New(errs.Unsupported, "being built")

func (e *Engine) startPause(ctx context.Context, s *sandbox, rec sandboxRecord) error {
	return errs.New(errs.Unsupported, "shared pid")
}
func (s *sandbox) pausePid() (int, error)                        { return 0, errSoon }
func (e *Engine) endPause(ctx context.Context, s *sandbox) error { return nil }
