// SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
)

// statusError is an API error that is of a kind too: errors.Is finds the kind, apierrors.IsNotFound and its like the rest.
type statusError struct {
	*apierrors.StatusError
	kind error
}

func (e *statusError) Unwrap() []error { return []error{e.StatusError, e.kind} }

// FromStatus makes an error of an API server's Status.
func FromStatus(s metav1.Status) error {
	return &statusError{&apierrors.StatusError{ErrStatus: s}, kindOf(s)}
}

// kindOf is the one table from API errors to kinds. The reason says more than the code where there is one.
func kindOf(s metav1.Status) error {
	if s.Reason == metav1.StatusReasonAlreadyExists {
		return errs.Exists
	}
	switch s.Code {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return errs.NotFound
	case http.StatusConflict:
		return errs.Conflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
		return errs.Invalid
	case http.StatusForbidden:
		return errs.Denied
	case http.StatusUnauthorized:
		return errs.Unauthentic
	case http.StatusGone:
		return errs.Gone
	case http.StatusRequestEntityTooLarge:
		return errs.TooLarge
	case http.StatusNotImplemented:
		return errs.Unsupported
	}
	return errs.Unavailable
}
