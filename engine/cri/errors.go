// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/knarr/knarr/internal/errs"
)

// code is the gRPC code of an error.
func code(err error) codes.Code {
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	switch errs.Kind(err) {
	case errs.NotFound:
		return codes.NotFound
	case errs.Exists:
		return codes.AlreadyExists
	case errs.Conflict, errs.Gone:
		return codes.FailedPrecondition
	case errs.Invalid:
		return codes.InvalidArgument
	case errs.Denied:
		return codes.PermissionDenied
	case errs.Unauthentic:
		return codes.Unauthenticated
	case errs.Unavailable:
		return codes.Unavailable
	case errs.TooLarge:
		return codes.ResourceExhausted
	case errs.Unsupported:
		return codes.Unimplemented
	}
	return codes.Unknown
}

// answer is an error as the other side sees it.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if _, is := status.FromError(err); is {
		return err
	}
	return status.Error(code(err), err.Error())
}

func (s *Server) unary(ctx context.Context, req any, i *grpc.UnaryServerInfo, do grpc.UnaryHandler) (out any, err error) {
	defer func() { err = s.finish(i.FullMethod, recover(), err) }()
	return do(ctx, req)
}

func (s *Server) streaming(srv any, ss grpc.ServerStream, i *grpc.StreamServerInfo, do grpc.StreamHandler) (err error) {
	defer func() { err = s.finish(i.FullMethod, recover(), err) }()
	return do(srv, ss)
}

// finish turns what a call ended with into its answer; a fault of ours ends the call alone.
func (s *Server) finish(method string, panicked any, err error) error {
	if panicked != nil {
		s.Log.Error("panic", "call", method, "err", panicked, "stack", string(debug.Stack()))
		err = fmt.Errorf("%s: internal error", method)
	}
	if err != nil {
		s.Log.Debug("call", "call", method, "err", err)
	}
	return answer(err)
}
