// SPDX-License-Identifier: Apache-2.0

// Command knarr-shim is the low-level runtime: the OCI runtime command line, with runc's verbs and flags, and the monitor
// that stays with one container (see package shim). It is small and static, because one monitor runs per container.
package main

import (
	"fmt"
	"os"

	"github.com/knarr/knarr/engine/oci"
	"github.com/knarr/knarr/engine/shim"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 {
		switch args[0] {
		case "init":
			oci.Init(args[1:])
		case "monitor":
			os.Exit(shim.Monitor())
		case "pid1":
			os.Exit(shim.PID1(args[1:]))
		}
	}
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, "knarr-shim:", err)
		os.Exit(exitCode(err))
	}
}
