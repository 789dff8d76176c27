// SPDX-License-Identifier: Apache-2.0

// Command knarrd is Knarr's daemon: any set of roles in one process. All it does is in package daemon.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/knarr/knarr/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(daemon.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
