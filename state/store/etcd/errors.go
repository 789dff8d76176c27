// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// kind says what kind of failure an error of etcd is. An error of the caller's own context stays what it is.
func kind(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s in etcd: %w", what, err)
	}
	return errs.New(kindOf(err), "%s in etcd: %w", what, err)
}

func kindOf(err error) error {
	err = rpctypes.Error(err)
	for _, m := range []struct{ etcd, kind error }{
		{rpctypes.ErrCompacted, errs.Gone},
		{rpctypes.ErrFutureRev, errs.Invalid},
		{rpctypes.ErrDuplicateKey, errs.Invalid},
		{rpctypes.ErrEmptyKey, errs.Invalid},
		{rpctypes.ErrTooManyOps, errs.TooLarge},
		{rpctypes.ErrRequestTooLarge, errs.TooLarge},
		{rpctypes.ErrNoSpace, store.Full},
		{rpctypes.ErrPermissionDenied, errs.Denied},
		{rpctypes.ErrInvalidAuthToken, errs.Unauthentic},
	} {
		if errors.Is(err, m.etcd) {
			return m.kind
		}
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange:
		return errs.Invalid
	case codes.Unauthenticated:
		return errs.Unauthentic
	case codes.PermissionDenied:
		return errs.Denied
	}
	return errs.Unavailable
}
