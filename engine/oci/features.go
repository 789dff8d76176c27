// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// MountOptions are the words of a mount's options that do not go to the file system.
func MountOptions() []string {
	words := append(slices.Collect(maps.Keys(propagations)), "bind", "rbind", "defaults", "idmap", "ridmap", "tmpcopyup")
	for w := range mountFlags {
		words = append(words, w, "r"+w)
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// Capabilities are those known by name.
func Capabilities() []string {
	var names []string
	for _, n := range capNames {
		names = append(names, "CAP_"+n)
	}
	return names
}

// SeccompActions are those a policy may use.
func SeccompActions() []specs.LinuxSeccompAction {
	return []specs.LinuxSeccompAction{specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno, specs.ActTrace, specs.ActAllow, specs.ActLog}
}

// SeccompOperators are those a rule may compare by.
func SeccompOperators() []specs.LinuxSeccompOperator { return slices.Clone(operators[:]) }

// SeccompArchs are this machine's own and the other one that its kernel runs.
func SeccompArchs() []string { return []string{nativeName, compatName} }

// SeccompFlags are those a policy may set.
func SeccompFlags() []string {
	return []string{string(specs.LinuxSeccompFlagLog), string(specs.LinuxSeccompFlagSpecAllow), "SECCOMP_FILTER_FLAG_TSYNC"}
}
