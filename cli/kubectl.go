// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (e *env) kubectl() *cobra.Command {
	return &cobra.Command{
		Use: "kubectl [--data-dir DIR] ARGS…", Short: "kubectl, built in, with this instance's credentials",
		DisableFlagParsing: true, // everything but --data-dir is kubectl's own
		RunE: func(cmd *cobra.Command, args []string) error {
			i := instance{dataDir: "/var/lib/knarr"}
			named := false
			for n, a := range args {
				if v, ok := strings.CutPrefix(a, "--data-dir="); ok {
					i.dataDir, args, named = v, slices.Delete(slices.Clone(args), n, n+1), true
					break
				}
				if a == "--data-dir" && n+1 < len(args) {
					i.dataDir, args, named = args[n+1], slices.Delete(slices.Clone(args), n, n+2), true
					break
				}
			}
			binary, err := daemonBinary()
			if err != nil {
				return err
			}
			env := os.Environ()
			if named || os.Getenv("KUBECONFIG") == "" {
				env = append(env, "KUBECONFIG="+i.kubeconfig())
			}
			return unix.Exec(binary, append([]string{"knarrd", "kubectl"}, args...), env)
		},
	}
}
