// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// The instructions that say how a container's process is started, checked and stopped.

func jsonWords(words []string) string {
	if words == nil {
		words = []string{}
	}
	data, err := json.Marshal(words)
	if err != nil {
		return fmt.Sprintf("%q", words)
	}
	return string(data)
}

func runCmd(ctx context.Context, r *stageRun, s Step) error {
	args, _ := r.command(s.Cmd.(*instructions.CmdCommand).ShellDependantCmdLine)
	r.cfg.Config.Cmd = args
	return r.metadata(ctx, "CMD "+jsonWords(args))
}

// runEntrypoint also clears a CMD inherited from the base image, which was meant for another program. One given in this
// Dockerfile, before or after, stays.
func runEntrypoint(ctx context.Context, r *stageRun, s Step) error {
	args, _ := r.command(s.Cmd.(*instructions.EntrypointCommand).ShellDependantCmdLine)
	r.cfg.Config.Entrypoint = args
	if !r.hasOwnCmd(s) {
		r.cfg.Config.Cmd = nil
	}
	return r.metadata(ctx, "ENTRYPOINT "+jsonWords(args))
}

func (r *stageRun) hasOwnCmd(until Step) bool {
	for _, s := range r.st.Steps {
		if s.Line >= until.Line {
			break
		}
		if s.Cmd.Name() == "cmd" || s.Cmd.Name() == "CMD" {
			return true
		}
	}
	return false
}

func runShell(ctx context.Context, r *stageRun, s Step) error {
	r.cfg.Config.Shell = s.Cmd.(*instructions.ShellCommand).Shell
	return r.metadata(ctx, "SHELL "+jsonWords(r.cfg.Config.Shell))
}

func runUser(ctx context.Context, r *stageRun, s Step) error {
	u := s.Cmd.(*instructions.UserCommand).User
	if err := checkUser(u); err != nil {
		return err
	}
	r.cfg.Config.User = u
	return r.metadata(ctx, "USER "+u)
}

// checkUser refuses numbers that would wrap round to another user.
func checkUser(u string) error {
	for _, part := range strings.SplitN(u, ":", 2) {
		if n, err := strconv.ParseInt(part, 10, 64); part == "" || err == nil && (n < 0 || n >= 1<<32-1) {
			return errs.New(errs.Invalid, "invalid USER %q", u)
		}
	}
	return nil
}

func runStopSignal(ctx context.Context, r *stageRun, s Step) error {
	sig := s.Cmd.(*instructions.StopSignalCommand).Signal
	if err := checkSignal(sig); err != nil {
		return err
	}
	r.cfg.Config.StopSignal = sig
	return r.metadata(ctx, "STOPSIGNAL "+sig)
}

func checkSignal(sig string) error {
	if n, err := strconv.Atoi(sig); err == nil {
		if n < 1 || n > 64 {
			return errs.New(errs.Invalid, "invalid signal: %s", sig)
		}
		return nil
	}
	name := strings.ToUpper(sig)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if unix.SignalNum(name) == 0 && !strings.HasPrefix(name, "SIGRTM") {
		return errs.New(errs.Invalid, "invalid signal: %s", sig)
	}
	return nil
}

func runHealthcheck(ctx context.Context, r *stageRun, s Step) error {
	h := *s.Cmd.(*instructions.HealthCheckCommand).Health
	r.cfg.Config.Healthcheck = &h
	return r.metadata(ctx, "HEALTHCHECK "+jsonWords(h.Test)+fmt.Sprintf(" interval=%s timeout=%s start-period=%s retries=%d", h.Interval, h.Timeout, h.StartPeriod, h.Retries))
}

func checkOnbuild(cmd instructions.Command) error {
	c, err := parseTrigger(cmd.(*instructions.OnbuildCommand).Expression)
	if err != nil {
		return err
	}
	return checkInstruction(c)
}

func runOnbuild(ctx context.Context, r *stageRun, s Step) error {
	text := s.Cmd.(*instructions.OnbuildCommand).Expression
	r.cfg.Config.OnBuild = append(r.cfg.Config.OnBuild, text)
	return r.metadata(ctx, "ONBUILD "+text)
}

// parseTrigger reads the one instruction of an ONBUILD. A base image's may be anything: it is checked like a line of a Dockerfile.
func parseTrigger(text string) (instructions.Command, error) {
	res, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", plainError(err))
	}
	if len(res.AST.Children) != 1 {
		return nil, errs.New(errs.Invalid, "a trigger is one instruction")
	}
	// The parser takes a check directive above the line for its linter's, which must not be nil then.
	v, err := instructions.ParseInstructionWithLinter(res.AST.Children[0], linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", plainError(err))
	}
	cmd, ok := v.(instructions.Command)
	if !ok {
		return nil, errs.New(errs.Invalid, "FROM cannot be a trigger")
	}
	if cmd.Name() == "onbuild" || cmd.Name() == "ONBUILD" {
		return nil, errs.New(errs.Invalid, "ONBUILD cannot trigger ONBUILD")
	}
	return cmd, checkInstruction(cmd)
}
