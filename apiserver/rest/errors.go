// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// Status turns any error into one that has a Status for the client and a kind for us.
func Status(err error) error {
	var has apierrors.APIStatus
	if errors.As(err, &has) {
		if errs.Kind(err) != nil {
			return err
		}
		return &statusError{StatusError: &apierrors.StatusError{ErrStatus: has.Status()}, kind: kindOf(has.Status()), err: err}
	}
	return &statusError{StatusError: statusOf(err), kind: errs.Kind(err), err: err}
}

// statusError is a StatusError that errors.Is knows the kind of.
type statusError struct {
	*apierrors.StatusError
	kind error
	err  error
}

func (e *statusError) Unwrap() []error {
	out := []error{e.StatusError, e.err}
	if e.kind != nil {
		out = append(out, e.kind)
	}
	return out
}

// byCode is the table of the HTTP edge, read both ways. The first row of a kind is the one that is sent.
var byCode = [...]struct {
	kind   error
	code   int32
	reason metav1.StatusReason
}{
	{errs.NotFound, http.StatusNotFound, metav1.StatusReasonNotFound},
	{errs.Exists, http.StatusConflict, metav1.StatusReasonAlreadyExists},
	{errs.Conflict, http.StatusConflict, metav1.StatusReasonConflict},
	{errs.Invalid, http.StatusBadRequest, metav1.StatusReasonBadRequest},
	{errs.Invalid, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid},
	{errs.Denied, http.StatusForbidden, metav1.StatusReasonForbidden},
	{errs.Unauthentic, http.StatusUnauthorized, metav1.StatusReasonUnauthorized},
	{errs.Gone, http.StatusGone, metav1.StatusReasonExpired},
	{errs.Unavailable, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable},
	{errs.Unavailable, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests},
	{errs.Unavailable, http.StatusGatewayTimeout, metav1.StatusReasonTimeout},
	{errs.TooLarge, http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge},
	{errs.Unsupported, http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType},
	{errs.Unsupported, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed},
	{errs.Unsupported, http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable},
}

// kindOf goes by the reason, and by the code for reasons that are not in the table.
func kindOf(st metav1.Status) error {
	for _, row := range byCode {
		if row.code == st.Code && row.reason == st.Reason {
			return row.kind
		}
	}
	if st.Code == http.StatusConflict {
		return errs.Conflict
	}
	for _, row := range byCode {
		if row.code == st.Code {
			return row.kind
		}
	}
	return nil
}

func statusOf(err error) *apierrors.StatusError {
	if errors.Is(err, context.DeadlineExceeded) {
		return apierrors.NewTimeoutError("the request did not complete within its time: "+err.Error(), 1)
	}
	if errors.Is(err, store.Full) {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInsufficientStorage, Reason: "InsufficientStorage", Message: err.Error(),
		}}
	}
	kind := errs.Kind(err)
	for _, row := range byCode {
		if kind != nil && row.kind == kind {
			return &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: row.code, Reason: row.reason, Message: err.Error(),
			}}
		}
	}
	return apierrors.NewInternalError(err)
}

func notFound(r *Request) error {
	return apierrors.NewNotFound(r.Type.Resource().GroupResource(), r.Name)
}

func methodNotSupported(r *Request) error {
	return apierrors.NewMethodNotSupported(r.Type.Resource().GroupResource(), string(r.Verb))
}

func invalid(r *Request, name string, list field.ErrorList) error {
	return apierrors.NewInvalid(r.Type.GroupKind(), name, list)
}

func conflict(r *Request, text string) error {
	return apierrors.NewConflict(r.Type.Resource().GroupResource(), r.Name, errors.New(text))
}

// modified is what everybody who lost an optimistic race has always been told.
const modified = "the object has been modified; please apply your changes to the latest version and try again"
