// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/knarr/knarr/internal/errs"
)

// Graph is what a Dockerfile asks for: stages, which of them the target needs, and how words are expanded.
type Graph struct {
	File   string  // the Dockerfile's name, for messages
	Stages []Stage // all, in order
	Needed []int   // indexes of the stages to build, ascending; the last is the target
	Escape rune    // the escape character: backslash or backtick

	// MetaArgs are the ARGs before the first FROM with their values: a stage's own ARG of the same name takes it over.
	MetaArgs map[string]string
	Advice   []Advice // build checks
	lines    []string
}

// Stage is one FROM and what follows it.
type Stage struct {
	Index    int
	Name     string // lower case, "" if it has none
	Base     Base
	Platform string
	Step     // the FROM itself; Cmd is nil
	Steps    []Step
}

// Base is what a stage or a COPY --from starts from; exactly one of the three.
type Base struct {
	Scratch bool
	Stage   int    // index of an earlier stage, -1 if it is none
	Image   string // reference
}

// Step is one instruction.
type Step struct {
	Line, EndLine int
	Text          string // the instruction as written, continuation lines joined
	Cmd           instructions.Command
	From          *Base   // of a COPY --from
	Mounts        []*Base // what each --mount of a RUN is from; nil for the build context, or nothing
}

// Args are the values Compile looks at beside the text.
type Args struct {
	Build  map[string]string // --build-arg
	Target string            // stage name or index, "" is the last
	File   string            // name for messages, "" is "Dockerfile"
	// Platform of the image and of this machine, "os/arch[/variant]"
	TargetPlatform, BuildPlatform string
}

// Compile reads a Dockerfile. It answers all faults it can find in one error (kind Invalid), each with file, line and the
// line itself. Pure.
func Compile(source []byte, a Args) (Graph, error) {
	if a.File == "" {
		a.File = "Dockerfile"
	}
	c := &compiler{args: a, graph: Graph{File: a.File, MetaArgs: map[string]string{}, lines: strings.Split(string(source), "\n")}}
	if len(source) > maxDockerfile {
		return c.graph, errs.New(errs.TooLarge, "%s is larger than %d bytes", a.File, maxDockerfile)
	}
	res, err := parser.Parse(bytes.NewReader(source))
	if err != nil {
		c.fault(lineOf(err), err)
		return c.graph, c.faults.err(c.graph)
	}
	c.graph.Escape = res.EscapeToken
	c.lex = shell.NewLex(res.EscapeToken)
	if c.checks, err = newChecks(source); err != nil {
		c.fault(1, err)
		return c.graph, c.faults.err(c.graph)
	}
	for _, n := range res.AST.Children {
		c.node(n)
	}
	c.finish()
	for _, w := range res.Warnings {
		if w.Location != nil {
			c.checks.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
		}
	}
	if c.graph.Advice, err = c.checks.finish(); err != nil {
		c.fault(0, err)
		for _, a := range c.graph.Advice {
			c.fault(a.Line, fmt.Errorf("%s: %s", a.Rule, a.Text))
		}
	}
	return c.graph, c.faults.err(c.graph)
}

const maxDockerfile = 4 << 20

type compiler struct {
	args   Args
	graph  Graph
	lex    *shell.Lex
	faults faults
	checks *checks
}

func (c *compiler) fault(line int, err error) { c.faults = append(c.faults, fault{line, err}) }

func (c *compiler) node(n *parser.Node) {
	v, err := instructions.ParseInstructionWithLinter(n, c.checks.Linter)
	if err != nil {
		c.fault(n.StartLine, plainError(err))
		if strings.EqualFold(n.Value, "FROM") { // so that what follows is not faulted for having no stage
			c.graph.Stages = append(c.graph.Stages, Stage{Index: len(c.graph.Stages), Base: Base{Scratch: true, Stage: -1}})
		}
		return
	}
	c.checks.instruction(n, v)
	step := Step{Line: n.StartLine, EndLine: n.EndLine, Text: strings.TrimSpace(n.Original)}
	switch v := v.(type) {
	case *instructions.Stage:
		c.stage(v, step)
	case instructions.Command:
		step.Cmd = v
		c.command(step)
	}
}

func (c *compiler) stage(v *instructions.Stage, step Step) {
	st := Stage{Index: len(c.graph.Stages), Name: v.Name, Step: step}
	defer func() { c.graph.Stages = append(c.graph.Stages, st) }()
	env := c.metaEnv()
	base, err := c.expand(v.BaseName, env)
	if err != nil {
		c.fault(step.Line, err)
	}
	if st.Platform, err = c.expand(v.Platform, env); err != nil {
		c.fault(step.Line, err)
	}
	if base == "" {
		c.fault(step.Line, fmt.Errorf("base name (%s) should not be blank", v.BaseName))
	}
	if v.Name != "" && c.find(v.Name) >= 0 {
		at := []parser.Range{{Start: parser.Position{Line: step.Line}}}
		c.checks.Run(&linter.RuleDuplicateStageName, at, linter.RuleDuplicateStageName.Format(v.Name))
	}
	st.Base = c.base(base)
}

// base finds what a name means at this point of the file: scratch, an earlier stage, or an image.
func (c *compiler) base(name string) Base {
	if name == "scratch" {
		return Base{Scratch: true, Stage: -1}
	}
	if i := c.find(name); i >= 0 {
		return Base{Stage: i}
	}
	return Base{Stage: -1, Image: name}
}

// find answers the index of a stage by name, -1 if there is none so far. A later stage of the same name wins.
func (c *compiler) find(name string) int {
	for i := len(c.graph.Stages) - 1; i >= 0; i-- {
		if n := c.graph.Stages[i].Name; n != "" && strings.EqualFold(n, name) {
			return i
		}
	}
	return -1
}

func (c *compiler) command(step Step) {
	if len(c.graph.Stages) == 0 {
		if arg, ok := step.Cmd.(*instructions.ArgCommand); ok {
			c.metaArg(step, arg)
			return
		}
		c.fault(step.Line, fmt.Errorf("%s before FROM: only ARG may stand there", strings.ToUpper(step.Cmd.Name())))
		return
	}
	if err := checkInstruction(step.Cmd); err != nil {
		c.fault(step.Line, err)
	}
	switch cmd := step.Cmd.(type) {
	case *instructions.CopyCommand:
		if cmd.From != "" {
			step.From = c.from(step, "COPY --from", cmd.From)
		}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(cmd) {
			var b *Base
			if m.From != "" {
				b = c.from(step, "RUN --mount from", m.From)
			}
			step.Mounts = append(step.Mounts, b)
		}
	}
	st := &c.graph.Stages[len(c.graph.Stages)-1]
	st.Steps = append(st.Steps, step)
}

// from finds what a name or index in an instruction's option means. what is the option, for messages.
func (c *compiler) from(step Step, what, from string) *Base {
	cur := len(c.graph.Stages) - 1
	if i, err := strconv.Atoi(from); err == nil {
		if i < 0 || i >= cur {
			c.fault(step.Line, fmt.Errorf("%s=%s: no earlier stage has this index", what, from))
			return &Base{Stage: -1}
		}
		return &Base{Stage: i}
	}
	b := c.base(from)
	if !b.Scratch && b.Image == "" && b.Stage == cur {
		c.fault(step.Line, fmt.Errorf("%s=%s: a stage cannot copy from itself", what, from))
		return &Base{Stage: -1}
	}
	if b.Scratch && strings.HasPrefix(what, "COPY") {
		c.fault(step.Line, fmt.Errorf("COPY --from=scratch: scratch has no files"))
	}
	return &b
}

func (c *compiler) metaArg(step Step, arg *instructions.ArgCommand) {
	for _, kv := range arg.Args {
		value, given := c.args.Build[kv.Key]
		if !given && kv.Value != nil {
			v, err := c.expand(*kv.Value, c.metaEnv())
			if err != nil {
				c.fault(step.Line, err)
			}
			value, given = v, true
		}
		if given {
			c.graph.MetaArgs[kv.Key] = value
		}
	}
}

func (c *compiler) metaEnv() []string {
	m := platformArgs(c.args.TargetPlatform, c.args.BuildPlatform)
	maps.Copy(m, c.graph.MetaArgs)
	return envList(m)
}

func envList(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return out
}

func (c *compiler) expand(word string, env []string) (string, error) {
	out, _, err := c.lex.ProcessWord(word, shell.EnvsFromSlice(env))
	return out, err
}

// platformArgs are the values that an ARG of these names, or a FROM, gets from the builder.
func platformArgs(target, build string) map[string]string {
	m := map[string]string{}
	for prefix, p := range map[string]string{"TARGET": target, "BUILD": build} {
		if p == "" {
			continue
		}
		parts := append(strings.SplitN(p, "/", 3), "", "")
		m[prefix+"PLATFORM"], m[prefix+"OS"], m[prefix+"ARCH"], m[prefix+"VARIANT"] = p, parts[0], parts[1], parts[2]
	}
	return m
}

// finish finds the target and what it needs.
func (c *compiler) finish() {
	if len(c.graph.Stages) == 0 {
		if len(c.faults) == 0 {
			c.fault(0, fmt.Errorf("no FROM: a Dockerfile needs at least one stage"))
		}
		return
	}
	target := len(c.graph.Stages) - 1
	if t := c.args.Target; t != "" {
		if target = c.find(t); target < 0 {
			i, err := strconv.Atoi(t)
			if err != nil || i < 0 || i >= len(c.graph.Stages) {
				c.fault(0, fmt.Errorf("target stage %q could not be found", t))
				return
			}
			target = i
		}
	}
	need := map[int]bool{}
	c.need(target, need)
	c.graph.Needed = slices.Sorted(maps.Keys(need))
}

func (c *compiler) need(i int, set map[int]bool) {
	if i < 0 || set[i] {
		return
	}
	set[i] = true
	for _, dep := range c.graph.uses(c.graph.Stages[i]) {
		c.need(dep, set)
	}
}

// uses lists the stages that a stage names.
func (g Graph) uses(st Stage) []int {
	var out []int
	add := func(b *Base) {
		if b != nil && !b.Scratch && b.Image == "" && b.Stage >= 0 {
			out = append(out, b.Stage)
		}
	}
	add(&st.Base)
	for _, s := range st.Steps {
		add(s.From)
		for _, m := range s.Mounts {
			add(m)
		}
	}
	return out
}

// Count is the number of steps that will be run, FROMs included.
func (g Graph) Count() int {
	n := 0
	for _, i := range g.Needed {
		n += 1 + len(g.Stages[i].Steps)
	}
	return n
}
