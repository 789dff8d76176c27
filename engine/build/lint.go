// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Advice is a build check's finding: nothing that stops a build, unless the directive check=error=true says so.
type Advice struct {
	Rule, Text, URL string
	Line            int
}

// checks are the build checks that the text alone can answer, under the names that Docker documents.
type checks struct {
	*linter.Linter
	found   *[]Advice
	workdir bool            // the stage has an absolute WORKDIR
	seen    map[string]bool // instructions of the stage
	upper   int             // instructions in upper case, less those in lower case
	words   []instructionWord
}

// instructionWord is an instruction's name as written.
type instructionWord struct {
	name string
	at   []parser.Range
}

func newChecks(source []byte) (*checks, error) {
	c := &checks{found: &[]Advice{}, seen: map[string]bool{}}
	cfg := linter.Config{}
	if _, value, _, ok := parser.ParseDirective("check", source); ok {
		parsed, err := linter.ParseLintOptions(value)
		if err != nil {
			return nil, fmt.Errorf("directive check=%s: %w", value, err)
		}
		cfg = *parsed
	}
	cfg.Warn = func(rule, _, url, text string, at []parser.Range) {
		a := Advice{Rule: rule, Text: text, URL: url}
		if len(at) > 0 {
			a.Line = at[0].Start.Line
		}
		*c.found = append(*c.found, a)
	}
	c.Linter = linter.New(&cfg)
	return c, nil
}

// secretName matches words that name a secret, and publicName what makes them harmless.
const (
	secretName = `(?i)(?:_|^)(?:apikey|auth|credentials?|key|passw(?:or)?d|pword|secret|token)(?:_|$)`
	publicName = `(?i)(?:_|^)(?:public|file|version)(?:_|$)`
)

// instruction looks at one line in its stage.
func (c *checks) instruction(n *parser.Node, v any) {
	c.word(n)
	at := n.Location()
	switch v := v.(type) {
	case *instructions.Stage:
		c.workdir, c.seen = false, map[string]bool{}
		if v.Name == "scratch" || v.Name == "context" {
			c.Run(&linter.RuleReservedStageName, at, linter.RuleReservedStageName.Format(v.Name))
		}
	case *instructions.CmdCommand:
		c.once("CMD", at)
		c.form("CMD", v.PrependShell, at)
	case *instructions.EntrypointCommand:
		c.once("ENTRYPOINT", at)
		c.form("ENTRYPOINT", v.PrependShell, at)
	case *instructions.HealthCheckCommand:
		c.once("HEALTHCHECK", at)
	case *instructions.ShellCommand:
		c.seen["SHELL"] = true // who sets a shell wants it: no advice on forms
	case *instructions.WorkdirCommand:
		if !path.IsAbs(v.Path) && !strings.HasPrefix(v.Path, "$") && !c.workdir {
			c.Run(&linter.RuleWorkdirRelativePath, at, linter.RuleWorkdirRelativePath.Format(v.Path))
		}
		c.workdir = true
	case *instructions.EnvCommand:
		for _, kv := range v.Env {
			c.pair("ENV", kv.Key, kv.NoDelim, at)
		}
	case *instructions.LabelCommand:
		for _, kv := range v.Labels {
			if kv.NoDelim {
				c.Run(&linter.RuleLegacyKeyValueFormat, at, linter.RuleLegacyKeyValueFormat.Format("LABEL"))
			}
		}
	case *instructions.ArgCommand:
		for _, kv := range v.Args {
			c.pair("ARG", kv.Key, false, at)
		}
	}
}

func (c *checks) word(n *parser.Node) {
	name, _, _ := strings.Cut(strings.TrimSpace(n.Original), " ")
	switch {
	case name == strings.ToUpper(name):
		c.upper++
	case name == strings.ToLower(name):
		c.upper--
	}
	c.words = append(c.words, instructionWord{name, n.Location()})
}

func (c *checks) once(name string, at []parser.Range) {
	if c.seen[name] {
		c.Run(&linter.RuleMultipleInstructionsDisallowed, at, linter.RuleMultipleInstructionsDisallowed.Format(name))
	}
	c.seen[name] = true
}

func (c *checks) form(name string, shell bool, at []parser.Range) {
	if shell && !c.seen["SHELL"] {
		c.Run(&linter.RuleJSONArgsRecommended, at, linter.RuleJSONArgsRecommended.Format(name))
	}
}

func (c *checks) pair(name, key string, noDelim bool, at []parser.Range) {
	if noDelim {
		c.Run(&linter.RuleLegacyKeyValueFormat, at, linter.RuleLegacyKeyValueFormat.Format(name))
	}
	if regexp.MustCompile(secretName).MatchString(key) && !regexp.MustCompile(publicName).MatchString(key) {
		c.Run(&linter.RuleSecretsUsedInArgOrEnv, at, linter.RuleSecretsUsedInArgOrEnv.Format(name, key))
	}
}

// finish answers all advice, and an error if the Dockerfile wants advice to be one.
func (c *checks) finish() ([]Advice, error) {
	majority, right := "uppercase", strings.ToUpper
	if c.upper < 0 {
		majority, right = "lowercase", strings.ToLower
	}
	for _, w := range c.words {
		if w.name != right(w.name) {
			c.Run(&linter.RuleConsistentInstructionCasing, w.at, linter.RuleConsistentInstructionCasing.Format(w.name, majority))
		}
	}
	return *c.found, c.Error()
}

// warn tells of the advice on the Dockerfile.
func (e *execution) warn() {
	for _, a := range e.graph.Advice {
		e.tell(Event{Kind: Warning, Text: a.Rule + ": " + a.Text, Line: a.Line, stage: -1})
	}
}
