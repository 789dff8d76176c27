// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// output opens the file of -o, or answers stdout if that is no terminal.
func (e *env) outputFile(path, command string) (io.Writer, func() error, error) {
	if path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	}
	if f, ok := e.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return nil, nil, usageError{fmt.Errorf("%s writes a tar, which is no good on a terminal: use -o FILE or redirect", command)}
	}
	return e.out, func() error { return nil }, nil
}

func (e *env) export() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "export [-o FILE] CONTAINER", Short: "Write a container's root file system as a tar", Args: exactly("a container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, closeOut, err := e.outputFile(path, "export")
			if err != nil {
				return err
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			r, err := c.ContainerExport(cmd.Context(), args[0], client.ContainerExportOptions{})
			if err != nil {
				return errors.Join(err, closeOut())
			}
			defer r.Close()
			_, err = io.Copy(out, r)
			return errors.Join(err, closeOut())
		},
	}
	cmd.Flags().StringVarP(&path, "output", "o", "", "file (default stdout)")
	return cmd
}

func (e *env) importCommand() *cobra.Command {
	var o client.ImageImportOptions
	cmd := &cobra.Command{
		Use: "import [flags] FILE|- [NAME]", Short: "Make an image of the tar of a root file system", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, name := e.in, ""
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			if len(args) == 2 {
				name = args[1]
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			r, err := c.ImageImport(cmd.Context(), client.ImageImportSource{Source: in, SourceName: "-"}, name, o)
			if err != nil {
				return err
			}
			defer r.Close()
			return e.show(r, nil)
		},
	}
	cmd.Flags().StringVarP(&o.Message, "message", "m", "", "what it is")
	cmd.Flags().StringArrayVarP(&o.Changes, "change", "c", nil, "Dockerfile instruction to add, like 'CMD [\"serve\"]'")
	return cmd
}
