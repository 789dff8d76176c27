// SPDX-License-Identifier: Apache-2.0

package naming

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestGeneratedNamesAreValidAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	now := time.Unix(1, 0)
	for i := range 20 {
		for n := range 50 {
			name := Generated("web-", "uid", now.Add(time.Duration(i)), n)
			if seen[name] {
				t.Errorf("%s twice", name)
			}
			seen[name] = true
			if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
				t.Errorf("%s: %v", name, faults)
			}
		}
	}
	if long := Generated(strings.Repeat("x", 80), "u", now, 0); len(long) != 63 {
		t.Errorf("%d characters", len(long))
	}
	if one, two := Generated("a", "u", now, 1), Generated("a", "u", now, 1); one != two {
		t.Error("not a function of its arguments")
	}
}
