// SPDX-License-Identifier: Apache-2.0

// Command knarr is what people type: containers, images, the cluster. All it does is in package cli.
package main

import (
	"context"
	"os"

	"github.com/knarr/knarr/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
