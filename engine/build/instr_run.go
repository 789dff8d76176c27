// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// predefinedArgs may be given without an ARG line; they reach RUN and leave no trace in image or cache.
var predefinedArgs = [...]string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"}

// defaultPath is what Docker sets where an image has no PATH.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func checkRun(cmd instructions.Command) error {
	c := cmd.(*instructions.RunCommand)
	if instructions.GetSecurity(c) == "insecure" {
		return errs.New(errs.Unsupported, "RUN --security=insecure is not supported: builds have no more rights than containers")
	}
	if len(instructions.GetDevices(c)) > 0 {
		return errs.New(errs.Unsupported, "RUN --device is not supported")
	}
	return nil
}

func runRun(ctx context.Context, r *stageRun, s Step) error {
	c := s.Cmd.(*instructions.RunCommand)
	if r.e.b.cfg.Run == nil {
		return errs.New(errs.Unsupported, "this builder cannot run commands")
	}
	args, stdin := r.command(c.ShellDependantCmdLine)
	if len(args) == 0 {
		return errs.New(errs.Invalid, "RUN without a command")
	}
	network, err := r.network(c)
	if err != nil {
		return err
	}
	mounts, mountKey, err := r.readMounts(ctx, c, s)
	if err != nil {
		return err
	}
	defer mounts.close()
	text := "RUN " + strings.Join(args, " ")
	if len(r.args) > 0 { // Docker's notation: which build arguments the command saw
		text = fmt.Sprintf("RUN |%d %s %s", len(r.args), strings.Join(envList(r.args), " "), strings.Join(args, " "))
	}
	key := r.key("RUN", fmt.Sprintf("%q", args), fmt.Sprintf("%q", envList(r.args)), stdin, network, fmt.Sprintf("%q", mountKey), fmt.Sprintf("%q", r.e.req.ExtraHosts))
	if r.cached(key) {
		return nil
	}
	if err := mounts.prepare(ctx); err != nil {
		return err
	}
	files := image.InitFiles{Hosts: []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"), ResolvConf: hostResolvConf(network)}
	mounts.initFiles(&files)
	return r.filesystem(ctx, key, text, files, func(snap, root string) error {
		r.tell(Event{Kind: Running, Text: snap})
		step := RunStep{Key: snap, Rootfs: root, Args: args, Env: r.runEnv(append(envList(r.args), r.cfg.Config.Env...), mounts.env), Dir: r.path("."), User: r.cfg.Config.User,
			Hostname: snap, NetworkMode: network, Stdout: output{r, false}, Stderr: output{r, true}, Mounts: mounts.list,
			ExtraHosts: r.e.req.ExtraHosts, ShmSize: r.e.req.ShmSize, Limits: r.e.req.Limits}
		if stdin != "" {
			step.Stdin = strings.NewReader(stdin)
		}
		code, err := r.e.b.cfg.Run.Run(ctx, step)
		if err != nil {
			return fmt.Errorf("run %q: %w", strings.Join(args, " "), err)
		}
		if code != 0 {
			return &ExitError{Command: strings.Join(args, " "), Code: code}
		}
		r.tell(Event{Kind: Note, Text: "Removing intermediate container " + snap + "\n"})
		return nil
	})
}

// ExitError says that a RUN's command failed.
type ExitError struct {
	Command string
	Code    int
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("The command '%s' returned a non-zero code: %d", e.Command, e.Code)
}

// Is makes it the requester's fault: the daemon did what it was told.
func (e *ExitError) Is(target error) bool { return target == errs.Invalid }

// network is the step's own choice, else the request's. The host's network is the requester's to give, not the Dockerfile's.
func (r *stageRun) network(c *instructions.RunCommand) (string, error) {
	req := &r.e.req
	if !slices.Contains(c.FlagsUsed, "network") {
		return req.Network, nil
	}
	n := instructions.GetNetwork(c)
	if n == "host" && req.Network != "host" && !slices.Contains(req.Allow, "network.host") {
		return "", errs.New(errs.Denied, "RUN --network=host needs a right that this build was not given: build with --allow network.host or --network host")
	}
	return n, nil
}

// runEnv completes the environment: PATH and the predefined arguments, unless the image or an ARG has them.
func (r *stageRun) runEnv(env, extra []string) []string {
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	}
	out := slices.Clone(env)
	for _, kv := range extra {
		if name, _, _ := strings.Cut(kv, "="); !has(name) {
			out = append(out, kv)
		}
	}
	if !has("PATH") {
		out = append([]string{defaultPath}, out...)
	}
	for _, k := range predefinedArgs {
		if v, ok := r.e.req.Args[k]; ok && !has(k) {
			out = append(out, k+"="+v)
		}
	}
	return out
}

// command is what is executed, and what it reads: the shell is put before a line that is not in JSON form, and a
// here-document is a script, or part of the line.
func (r *stageRun) command(c instructions.ShellDependantCmdLine) (args []string, stdin string) {
	line := slices.Clone(c.CmdLine)
	if len(c.Files) > 0 && len(line) > 0 {
		if only := parser.MustParseHeredoc(line[0]); only != nil && len(line) == 1 && len(c.Files) == 1 {
			data := heredocText(c.Files[0])
			if interp, ok := shebang(data); ok {
				return append(interp, "/dev/stdin"), data
			}
			line = []string{data}
		} else {
			for _, f := range c.Files {
				line[0] += "\n" + f.Data + f.Name
			}
		}
	}
	if c.PrependShell {
		line = append(r.shell(), line...)
	}
	return line, ""
}

func heredocText(f instructions.ShellInlineFile) string {
	if f.Chomp {
		return parser.ChompHeredocContent(f.Data)
	}
	return f.Data
}

// shebang reads "#!interpreter [argument]" as the kernel does: one argument at most.
func shebang(script string) ([]string, bool) {
	first, _, _ := strings.Cut(script, "\n")
	line, ok := strings.CutPrefix(first, "#!")
	if !ok {
		return nil, false
	}
	interp, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	if interp == "" {
		return nil, false
	}
	if arg = strings.TrimSpace(arg); arg != "" {
		return []string{interp, arg}, true
	}
	return []string{interp}, true
}

func (r *stageRun) shell() []string {
	if s := r.cfg.Config.Shell; len(s) > 0 {
		return slices.Clone(s)
	}
	return []string{"/bin/sh", "-c"}
}

// hostResolvConf is the machine's, for steps that have a network; the Runner may put a better one over it.
func hostResolvConf(network string) []byte {
	if network == "none" {
		return nil
	}
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil
	}
	return data
}
