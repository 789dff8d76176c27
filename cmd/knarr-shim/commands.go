// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/knarr/knarr/engine/oci"
	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// command is one verb: its options, the words it needs after them, and what it does.
type command struct {
	flags flags
	usage string
	min   int
	run   func(c *call) error
}

// call is one verb under way.
type call struct {
	runtime oci.Runtime
	opts    options
	args    []string
	code    int // exit status of a program that was waited for
}

// global options come before the verb. Those of runc that have no meaning here are taken and ignored.
var global = flags{"root": true, "log": true, "log-format": true, "debug": false, "systemd-cgroup": false, "rootless": true,
	"criu": true, "version": false, "v": false, "help": false, "h": false}

func commands() map[string]command {
	create := flags{"bundle": true, "b": true, "console-socket": true, "pid-file": true, "no-pivot": false, "no-new-keyring": false,
		"preserve-fds": true, "pidfd-socket": true}
	run := flags{"detach": false, "d": false, "keep": false, "no-subreaper": false}
	for k, v := range create {
		run[k] = v
	}
	refused := flags{"image-path": true, "work-path": true, "parent-path": true, "leave-running": false, "tcp-established": false,
		"ext-unix-sk": false, "shell-job": false, "lazy-pages": false, "status-fd": true, "page-server": true, "file-locks": false, "pre-dump": false,
		"manage-cgroups-mode": true, "empty-ns": true, "auto-dedup": false, "bundle": true, "b": true, "detach": false, "d": false,
		"console-socket": true, "pid-file": true, "no-pivot": false, "no-subreaper": false, "lsm-profile": true, "lsm-mount-context": true}
	return map[string]command{
		"create": {create, "create [--bundle DIR] ID", 1, (*call).create},
		"run":    {run, "run [--bundle DIR] [--detach] ID", 1, (*call).runContainer},
		"start":  {nil, "start ID", 1, func(c *call) error { return c.runtime.Start(c.args[0]) }},
		"state":  {nil, "state ID", 1, (*call).state},
		"kill":   {flags{"all": false, "a": false}, "kill [--all] ID [SIGNAL]", 1, (*call).kill},
		"delete": {flags{"force": false, "f": false}, "delete [--force] ID...", 1, (*call).delete},
		"list":   {flags{"format": true, "f": true, "quiet": false, "q": false}, "list [--format table|json] [--quiet]", 0, (*call).list},
		"pause":  {nil, "pause ID", 1, func(c *call) error { return c.runtime.Pause(c.args[0]) }},
		"resume": {nil, "resume ID", 1, func(c *call) error { return c.runtime.Resume(c.args[0]) }},
		"ps":     {flags{"format": true, "f": true}, "ps ID", 1, (*call).ps},
		"exec": {flags{"process": true, "p": true, "detach": false, "d": false, "tty": false, "t": false, "user": true, "u": true,
			"cwd": true, "env": true, "e": true, "console-socket": true, "pid-file": true, "no-new-privs": false, "cap": true, "c": true,
			"additional-gids": true, "g": true, "preserve-fds": true, "ignore-paused": false, "process-label": true, "apparmor": true, "cgroup": true,
			"no-subreaper": false},
			"exec [--process FILE] ID [COMMAND ARG...]", 1, (*call).exec},
		"features":   {nil, "features", 0, (*call).features},
		"update":     {updateFlags(), "update --resources FILE|- ID, or update --memory 64M --cpu-quota 20000 … ID", 1, (*call).update},
		"events":     {flags{"interval": true, "stats": false}, "events [--stats] [--interval 5s] ID", 1, (*call).events},
		"checkpoint": {refused, "checkpoint: not supported", 0, (*call).noCheckpoint},
		"restore":    {refused, "restore: not supported", 0, (*call).noCheckpoint},
	}
}

func run(args []string) error {
	opts, rest, err := global.parse(args)
	if err != nil {
		return err
	}
	g := options(opts)
	if g.is("version", "v") {
		fmt.Printf("knarr-shim version 0.1.0\nspec: %s\n", specs.Version)
		return nil
	}
	all := commands()
	if len(rest) == 0 || g.is("help", "h") {
		return usage(all)
	}
	cmd, ok := all[rest[0]]
	if !ok {
		return errs.New(errs.Invalid, "unknown command %q; try knarr-shim --help", rest[0])
	}
	root := g.get("root")
	if root == "" {
		root = "/run/knarr/oci"
		if dir := os.Getenv("XDG_RUNTIME_DIR"); os.Geteuid() != 0 && dir != "" {
			root = filepath.Join(dir, "knarr/oci")
		}
	}
	opts, words, err := cmd.flags.parse(rest[1:])
	if err == nil && len(words) < cmd.min {
		err = errs.New(errs.Invalid, "usage: knarr-shim %s", cmd.usage)
	}
	log := func(level, text string) { logTo(g.get("log"), g.get("log-format"), level, text) }
	if err == nil {
		c := &call{opts: opts, args: words, runtime: oci.Runtime{Root: root, Warn: func(s string) { log("warning", s) }}}
		err = cmd.run(c)
		if err == nil && c.code != 0 {
			os.Exit(c.code)
		}
	}
	if err != nil {
		log("error", err.Error())
	}
	return err
}

func usage(all map[string]command) error {
	fmt.Println("knarr-shim [--root DIR] [--log FILE] [--log-format text|json] COMMAND\n\nCommands:")
	for _, name := range []string{"create", "run", "start", "state", "kill", "delete", "list", "exec", "ps", "pause", "resume", "update", "events", "features", "checkpoint", "restore"} {
		fmt.Println("  " + all[name].usage)
	}
	return nil
}

// logTo appends one line to the file that runc's callers read the reason of a failure from.
func logTo(file, format, level, text string) {
	if file == "" {
		if level == "warning" {
			fmt.Fprintln(os.Stderr, "knarr-shim: warning:", text)
		}
		return
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	now := time.Now().UTC().Format(time.RFC3339)
	if format == "json" {
		line, _ := json.Marshal(map[string]string{"level": level, "msg": text, "time": now})
		fmt.Fprintf(f, "%s\n", line)
		return
	}
	fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, text)
}

// exitCode: 127 and 126 as a shell says them, 1 for the rest.
func exitCode(err error) int {
	text := err.Error()
	switch {
	case errors.Is(err, errs.NotFound) && strings.Contains(text, "exec"):
		return 127
	case errors.Is(err, errs.Denied) && strings.Contains(text, "exec"):
		return 126
	}
	return 1
}

func (c *call) createOptions() (oci.CreateOptions, error) {
	o := oci.CreateOptions{PidFile: c.opts.get("pid-file")}
	if n := c.opts.get("preserve-fds"); n != "" {
		v, err := strconv.Atoi(n)
		if err != nil || v < 0 || v > 1000 {
			return o, errs.New(errs.Invalid, "--preserve-fds %q is not a number of descriptors", n)
		}
		o.Preserve = v
	}
	if path := c.opts.get("console-socket"); path != "" {
		f, err := dialConsole(path)
		if err != nil {
			return o, err
		}
		o.Console = f
	}
	return o, nil
}

func dialConsole(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to console socket %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (c *call) bundle() string {
	if b := c.opts.get("bundle", "b"); b != "" {
		return b
	}
	return "."
}

func (c *call) create() error {
	o, err := c.createOptions()
	if err != nil {
		return err
	}
	_, err = c.runtime.Create(c.args[0], c.bundle(), o)
	return err
}

// runContainer is create and start; in the foreground it passes signals on, waits and deletes.
func (c *call) runContainer() error {
	o, err := c.createOptions()
	if err != nil {
		return err
	}
	id := c.args[0]
	pid, err := c.runtime.Create(id, c.bundle(), o)
	if err != nil {
		return err
	}
	if err := c.runtime.Start(id); err != nil {
		_ = c.runtime.Delete(id, true)
		return err
	}
	if c.opts.is("detach", "d") {
		return nil
	}
	c.code, err = waitForward(pid)
	if err != nil || c.opts.is("keep") {
		return err
	}
	return c.runtime.Delete(id, true)
}

func (c *call) state() error {
	st, err := c.runtime.State(c.args[0])
	if err != nil {
		return err
	}
	return printJSON(st)
}

// printLine prints v on one line.
func printLine(v any) error {
	out, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(out))
	return err
}

func printJSON(v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(out))
	return err
}

func (c *call) kill() error {
	sig := unix.SIGTERM
	if len(c.args) > 1 {
		s, err := parseSignal(c.args[1])
		if err != nil {
			return err
		}
		sig = s
	}
	return c.runtime.Kill(c.args[0], sig, c.opts.is("all", "a"))
}

func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 64 {
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	return 0, errs.New(errs.Invalid, "unknown signal %q", s)
}

func (c *call) delete() error {
	var all []error
	for _, id := range c.args {
		all = append(all, c.runtime.Delete(id, c.opts.is("force", "f")))
	}
	return errors.Join(all...)
}

func (c *call) list() error {
	list, err := c.runtime.List()
	if err != nil {
		return err
	}
	switch {
	case c.opts.is("quiet", "q"):
		for _, e := range list {
			fmt.Println(e.ID)
		}
	case c.opts.get("format", "f") == "json":
		return printJSON(list)
	default:
		fmt.Printf("%-36s %-8s %-10s %-40s %s\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED")
		for _, e := range list {
			fmt.Printf("%-36s %-8d %-10s %-40s %s\n", e.ID, e.Pid, e.Status, e.Bundle, e.Created.Format(time.RFC3339))
		}
	}
	return nil
}

func (c *call) exec() error {
	e, err := c.execOptions()
	if err != nil {
		return err
	}
	pid, err := c.runtime.Exec(c.args[0], e)
	if err != nil || c.opts.is("detach", "d") {
		return err
	}
	c.code, err = waitForward(pid)
	return err
}

// execOptions takes the process from a file, or from the container's own with the command line's changes.
func (c *call) execOptions() (oci.ExecOptions, error) {
	created, err := c.createOptions()
	if err != nil {
		return oci.ExecOptions{}, err
	}
	e := oci.ExecOptions{CreateOptions: created}
	if file := c.opts.get("process", "p"); file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return e, err
		}
		if err := json.Unmarshal(data, &e.Process); err != nil {
			return e, errs.New(errs.Invalid, "decode %s: %w", file, err)
		}
		return e, nil
	}
	st, err := c.runtime.State(c.args[0])
	if err != nil {
		return e, err
	}
	var spec specs.Spec
	data, err := os.ReadFile(filepath.Join(st.Bundle, "config.json"))
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(data, &spec); err != nil || spec.Process == nil {
		return e, errs.New(errs.Invalid, "decode config.json of %s: %w", st.Bundle, err)
	}
	e.Process = *spec.Process
	return e, c.amend(&e.Process)
}

func (c *call) amend(p *specs.Process) error {
	p.Args, p.Terminal = c.args[1:], c.opts.is("tty", "t")
	p.Env = append(p.Env, append(c.opts["env"], c.opts["e"]...)...)
	if cwd := c.opts.get("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	p.SelinuxLabel, p.ApparmorProfile = cmp.Or(c.opts.get("process-label"), p.SelinuxLabel), cmp.Or(c.opts.get("apparmor"), p.ApparmorProfile)
	if g := c.opts.get("cgroup"); g != "" {
		return errs.New(errs.Unsupported, "--cgroup %q: a process goes to the container's own group; leave it out", g)
	}
	if c.opts.is("no-new-privs") {
		p.NoNewPrivileges = true
	}
	if u := c.opts.get("user", "u"); u != "" {
		uid, gid, both := strings.Cut(u, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return errs.New(errs.Invalid, "--user %q is not uid[:gid]", u)
		}
		p.User = specs.User{UID: uint32(n)}
		if both {
			n, err := strconv.ParseUint(gid, 10, 32)
			if err != nil {
				return errs.New(errs.Invalid, "--user %q is not uid[:gid]", u)
			}
			p.User.GID = uint32(n)
		}
	}
	for _, g := range append(c.opts["additional-gids"], c.opts["g"]...) {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return errs.New(errs.Invalid, "--additional-gids %q is not a number", g)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(n))
	}
	if caps := append(c.opts["cap"], c.opts["c"]...); len(caps) > 0 {
		if p.Capabilities == nil {
			p.Capabilities = new(specs.LinuxCapabilities)
		}
		k := p.Capabilities
		k.Bounding, k.Effective, k.Permitted = append(k.Bounding, caps...), append(k.Effective, caps...), append(k.Permitted, caps...)
	}
	return nil
}
