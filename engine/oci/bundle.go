// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// bundleSpec is the part of specs.Spec that Linux knows. encoding/json builds tables for every type it may meet, and the parts for
// other systems are half of them; the seccomp policy is longer than all the rest and most often known already (see Filter).
type bundleSpec struct {
	Version     string            `json:"ociVersion"`
	Process     *specs.Process    `json:"process"`
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname"`
	Domainname  string            `json:"domainname"`
	Mounts      []specs.Mount     `json:"mounts"`
	Hooks       *specs.Hooks      `json:"hooks"`
	Annotations map[string]string `json:"annotations"`
	Linux       *bundleLinux      `json:"linux"`
}

type bundleLinux struct {
	specs.Linux
	Seccomp json.RawMessage `json:"seccomp"`
}

// loadSpec reads config.json of a bundle, the seccomp policy in it apart, and gives the bundle's absolute path.
func loadSpec(bundle string) (*specs.Spec, json.RawMessage, string, error) {
	bundle, err := filepath.Abs(bundle)
	if err != nil {
		return nil, nil, "", err
	}
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, nil, "", fmt.Errorf("read the bundle's config: %w", err)
	}
	var b bundleSpec
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, nil, "", errs.New(errs.Invalid, "decode %s: %w", filepath.Join(bundle, "config.json"), err)
	}
	spec, policy := b.spec()
	return spec, policy, bundle, nil
}

func (b bundleSpec) spec() (*specs.Spec, json.RawMessage) {
	s := &specs.Spec{Version: b.Version, Process: b.Process, Root: b.Root, Hostname: b.Hostname, Domainname: b.Domainname,
		Mounts: b.Mounts, Hooks: b.Hooks, Annotations: b.Annotations}
	if b.Linux == nil {
		return s, nil
	}
	s.Linux = &b.Linux.Linux
	return s, b.Linux.Seccomp
}

// Filter is a seccomp policy in its compiled form, for a caller that creates many containers with the same: compiling takes a
// millisecond of each start.
type Filter struct {
	Policy []byte `json:"policy"` // linux.seccomp, byte by byte as config.json has it
	filter
}

// CompileFilter compiles a policy as json.Marshal writes it.
func CompileFilter(s *specs.LinuxSeccomp) (*Filter, error) {
	policy, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	f, err := compileSeccomp(s)
	if err != nil || f == nil {
		return nil, err
	}
	return &Filter{Policy: policy, filter: *f}, nil
}

// of is the compiled form of a policy: f's, if f was made from the very same bytes, and else compiled now.
func (f *Filter) of(policy json.RawMessage) (*filter, error) {
	if f != nil && len(f.Code) > 0 && bytes.Equal(f.Policy, policy) {
		return &f.filter, nil
	}
	var s *specs.LinuxSeccomp
	if len(policy) > 0 {
		if err := json.Unmarshal(policy, &s); err != nil {
			return nil, errs.New(errs.Invalid, "decode linux.seccomp: %w", err)
		}
	}
	return compileSeccomp(s)
}

// Warm makes the next Create of this process quicker, by what does not depend on the container: encoding/json's tables. It is
// for a process that waits for its orders.
func Warm() {
	const sample = `{"process":{"user":{},"capabilities":{},"rlimits":[{}]},"root":{},"mounts":[{}],"linux":{"namespaces":[{}],
"resources":{"devices":[{}],"memory":{},"cpu":{},"pids":{}},"devices":[{}]}}`
	_ = json.Unmarshal([]byte(sample), new(bundleSpec))
	_, _ = json.Marshal(initConfig{})
	_, _ = json.Marshal(state{})
}
