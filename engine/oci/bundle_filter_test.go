// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// A compiled filter that comes with a bundle stands for the very policy that is in the bundle and for no other.
func TestACompiledFilterStandsForItsOwnPolicyOnly(t *testing.T) {
	allow := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	deny := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActErrno}}}
	given, err := CompileFilter(allow)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		given *Filter
		in    *specs.LinuxSeccomp
	}{"same": {given, allow}, "other": {given, deny}, "none given": {nil, deny}, "empty": {&Filter{}, deny}, "no policy": {&Filter{}, nil}} {
		var policy json.RawMessage
		if c.in != nil {
			policy, _ = json.Marshal(c.in)
		}
		got, err := c.given.of(policy)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := compileSeccomp(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if (got == nil) != (want == nil) || want != nil && !bytes.Equal(got.Code, want.Code) {
			t.Errorf("%s: the filter is not that of the bundle's policy", name)
		}
	}
	if _, err := (&Filter{}).of(json.RawMessage(`{"defaultAction":"SCMP_ACT_NOPE"}`)); err == nil {
		t.Error("a policy that nobody understands is accepted")
	}
	// What json.Marshal makes of a whole bundle holds the policy byte by byte as CompileFilter saw it.
	whole, _ := json.Marshal(specs.Spec{Linux: &specs.Linux{Seccomp: allow}})
	var b bundleSpec
	if err := json.Unmarshal(whole, &b); err != nil || !bytes.Equal(b.Linux.Seccomp, given.Policy) {
		t.Errorf("in the bundle: %s, compiled: %s, %v", b.Linux.Seccomp, given.Policy, err)
	}
}
