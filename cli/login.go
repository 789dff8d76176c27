// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (e *env) login() *cobra.Command {
	var user, password string
	var fromStdin bool
	cmd := &cobra.Command{
		Use: "login [flags] [REGISTRY]", Short: "Keep the credentials of a registry", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := registryKey(strings.Join(args, ""))
			creds, err := readCredentials()
			if err != nil {
				return err
			}
			a, err := e.askCredentials(user, password, fromStdin)
			if err != nil {
				return err
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			got, err := c.RegistryLogin(cmd.Context(), client.RegistryLoginOptions{Username: a.Username, Password: a.Password, ServerAddress: key})
			if err != nil {
				return err
			}
			if got.Auth.IdentityToken != "" {
				a.Password, a.IdentityToken = "", got.Auth.IdentityToken
			}
			if err := creds.put(cmd.Context(), key, a); err != nil {
				return fmt.Errorf("keep the credentials: %w", err)
			}
			if creds.helper(key) == "" {
				fmt.Fprintf(e.err, "The password is kept unencrypted in %s; a credential helper (credsStore there) keeps it better.\n", creds.path)
			}
			fmt.Fprintln(e.out, got.Auth.Status)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&user, "username", "u", "", "user name")
	f.StringVarP(&password, "password", "p", "", "password or token; others can see it in the list of processes")
	f.BoolVar(&fromStdin, "password-stdin", false, "read the password from stdin")
	return cmd
}

// askCredentials takes what the flags leave out from stdin.
func (e *env) askCredentials(user, password string, fromStdin bool) (registry.AuthConfig, error) {
	a := registry.AuthConfig{Username: user, Password: password}
	if fromStdin {
		switch {
		case password != "":
			return a, usageError{errors.New("--password and --password-stdin are mutually exclusive")}
		case user == "":
			return a, usageError{errors.New("--password-stdin wants --username too")}
		}
		data, err := io.ReadAll(io.LimitReader(e.in, 1<<20))
		a.Password = strings.TrimRight(string(data), "\r\n")
		return a, err
	}
	if a.Username != "" && a.Password != "" {
		return a, nil
	}
	f, ok := e.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return a, usageError{errors.New("there is no terminal to ask on: use --username and --password-stdin")}
	}
	if a.Username == "" {
		fmt.Fprint(e.err, "Username: ")
		line, err := bufio.NewReader(f).ReadString('\n')
		if err != nil {
			return a, err
		}
		a.Username = strings.TrimSpace(line)
	}
	fmt.Fprint(e.err, "Password: ")
	secret, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(e.err)
	a.Password = string(secret)
	return a, err
}

func (e *env) logout() *cobra.Command {
	return &cobra.Command{
		Use: "logout [REGISTRY]", Short: "Forget the credentials of a registry", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := registryKey(strings.Join(args, ""))
			creds, err := readCredentials()
			if err != nil {
				return err
			}
			found, err := creds.forget(cmd.Context(), key)
			if err != nil {
				return err
			}
			if !found {
				fmt.Fprintln(e.out, "Not logged in to", key)
				return nil
			}
			fmt.Fprintln(e.out, "Removing login credentials for", key)
			return nil
		},
	}
}
