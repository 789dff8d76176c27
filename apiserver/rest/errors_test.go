// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/knarr/knarr/internal/errs"
)

func TestEveryKindOfErrorHasAStatus(t *testing.T) {
	for _, kind := range errs.All {
		err := Status(fmt.Errorf("do something: %w", kind))
		var st apierrors.APIStatus
		if !errors.As(err, &st) || st.Status().Code < 400 || st.Status().Code == 500 || st.Status().Reason == "" {
			t.Errorf("%v: %v", kind, err)
		}
		if !errors.Is(err, kind) {
			t.Errorf("%v is lost", kind)
		}
		if got := kindOf(st.Status()); got != kind {
			t.Errorf("%v comes back as %v", kind, got)
		}
	}
	if err := Status(errors.New("x")); !apierrors.IsInternalError(err) {
		t.Errorf("no kind: %v", err)
	}
	if err := Status(noResourceConflict()); !errors.Is(err, errs.Conflict) || !apierrors.IsConflict(err) {
		t.Errorf("a status error: %v", err)
	}
}

func noResourceConflict() error { return apierrors.NewConflict(noResource, "x", errors.New("y")) }

func TestAddress(t *testing.T) {
	p := netip.MustParsePrefix("10.43.0.0/16")
	for n, want := range map[int]string{0: "10.43.0.0", 1: "10.43.0.1", 10: "10.43.0.10", 256: "10.43.1.0", 65535: "10.43.255.255"} {
		if got := addr(p, n).String(); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if got := addr(netip.MustParsePrefix("fd00::/112"), 258).String(); got != "fd00::102" {
		t.Errorf("IPv6: %s", got)
	}
}
