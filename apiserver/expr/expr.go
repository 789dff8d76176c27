// SPDX-License-Identifier: Apache-2.0

// Package expr compiles and runs the CEL expressions of admission: match conditions of webhooks, and everything in
// validating and mutating admission policies.
//
// The language is upstream's, taken from its library (k8s.io/apiserver/pkg/cel): the same functions, the same cost limits. An
// expression is compiled once and remembered by its text; running one is bounded in cost and ends with the request's context.
//
// The package keeps a bounded memory of compiled expressions, starts no goroutine and has no files. A compiler takes about
// 20 ms and some megabytes to make, so it is made when the first expression is met.
package expr

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"

	"github.com/knarr/knarr/internal/errs"
)

// Kind is what an expression must come to.
type Kind int

// The kinds of result.
const (
	Bool      Kind = iota
	Text           // a string, or null
	Any            // a variable's value
	Object         // Object{…}: an apply configuration
	JSONPatch      // a list of JSONPatch{…}
)

// maxPrograms bounds the memory of compiled expressions.
const maxPrograms = 2048

// Compiler remembers what it compiled. The zero value works.
type Compiler struct {
	mu       sync.Mutex // guards the rest
	plain    *cel.Env
	mutating *cel.Env
	without  *cel.Env // plain, where there are no parameters
	programs map[string]*Program
}

// Program is a compiled expression. Err, when set, is what the compiler says against it.
type Program struct {
	Expression string
	Err        error
	run        cel.Program
}

// Names of the variables that expressions see.
const (
	varObject    = "object"
	varOld       = "oldObject"
	varParams    = "params"
	varRequest   = "request"
	varNamespace = "namespaceObject"
	varAuthz     = "authorizer"
	varAuthzRes  = "authorizer.requestResource"
	varVariables = "variables"
)

// Compile compiles expression for a kind of result. It never fails: the fault is in the program, and met when it is run.
func (c *Compiler) Compile(expression string, k Kind) *Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprintf("%d\x00%s", k, expression)
	if p, ok := c.programs[key]; ok {
		return p
	}
	if len(c.programs) >= maxPrograms || c.programs == nil {
		c.programs = map[string]*Program{}
	}
	p := &Program{Expression: expression}
	p.run, p.Err = c.compile(expression, k)
	c.programs[key] = p
	return p
}

// Check says what is wrong with expression when it is written down: unlike Compile, it knows whether there are parameters to
// speak of (a mutation that names parameters there are none of fails when it is run).
func (c *Compiler) Check(expression string, k Kind, params bool) error {
	if p := c.Compile(expression, k); p.Err != nil || params || k == Object || k == JSONPatch {
		return p.Err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, issues := c.without.Compile(expression); issues != nil && issues.Err() != nil {
		return errs.New(errs.Invalid, "compilation failed: %s", issues.String())
	}
	return nil
}

func (c *Compiler) compile(expression string, k Kind) (cel.Program, error) {
	env, err := c.env(k == Object || k == JSONPatch)
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(expression)
	if issues != nil && issues.Err() != nil {
		return nil, errs.New(errs.Invalid, "compilation failed: %s", issues.String())
	}
	if err := suits(ast.OutputType(), k); err != nil {
		return nil, err
	}
	return env.Program(ast, cel.CostLimit(celconfig.PerCallLimit), cel.InterruptCheckFrequency(celconfig.CheckFrequency),
		cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost))
}

func suits(t *cel.Type, k Kind) error {
	is := func(want ...*cel.Type) bool {
		for _, w := range want {
			if t.IsExactType(w) {
				return true
			}
		}
		return t.IsExactType(cel.DynType) && k != Object && k != JSONPatch || t.IsExactType(cel.AnyType)
	}
	switch k {
	case Bool:
		if !is(cel.BoolType) {
			return errs.New(errs.Invalid, "must evaluate to bool but got %s", t)
		}
	case Text:
		if !is(cel.StringType, cel.NullType) {
			return errs.New(errs.Invalid, "must evaluate to one of [string null_type] but got %s", t)
		}
	case Object:
		if t.TypeName() != "Object" {
			return errs.New(errs.Invalid, "must evaluate to Object but got %s", t)
		}
	case JSONPatch:
		if t.Kind() != types.ListKind {
			return errs.New(errs.Invalid, "must evaluate to list(JSONPatch) but got %s", t)
		}
	}
	return nil
}

// env makes the environments when they are first needed.
func (c *Compiler) env(mutating bool) (*cel.Env, error) {
	if c.plain == nil {
		set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
			IntroducedVersion: version.MajorMinor(1, 0),
			EnvOptions: []cel.EnvOption{
				cel.Variable(varObject, cel.DynType), cel.Variable(varOld, cel.DynType),
				cel.Variable(varRequest, cel.DynType), cel.Variable(varNamespace, cel.DynType),
				cel.Variable(varAuthz, library.AuthorizerType), cel.Variable(varAuthzRes, library.ResourceCheckType),
				cel.Variable(varVariables, cel.MapType(cel.StringType, cel.DynType)),
			},
		})
		if err != nil {
			return nil, fmt.Errorf("make the CEL environment: %w", err)
		}
		if c.without, err = set.Env(environment.StoredExpressions); err != nil {
			return nil, fmt.Errorf("make the CEL environment: %w", err)
		}
		if c.plain, err = c.without.Extend(cel.Variable(varParams, cel.DynType)); err != nil {
			return nil, fmt.Errorf("make the CEL environment: %w", err)
		}
	}
	if !mutating {
		return c.plain, nil
	}
	if c.mutating == nil {
		env, err := c.plain.Extend(library.JSONPatch(), common.ResolverEnvOption(&mutation.DynamicTypeResolver{}))
		if err != nil {
			return nil, fmt.Errorf("make the CEL environment of mutations: %w", err)
		}
		c.mutating = env
	}
	return c.mutating, nil
}

// Run runs the program on in.
func (p *Program) Run(ctx context.Context, in *Input) (ref.Val, error) {
	if p.Err != nil {
		return nil, p.Err
	}
	v, details, err := p.run.ContextEval(ctx, in.activation())
	if details != nil && details.ActualCost() != nil {
		if err := in.spend(*details.ActualCost()); err != nil {
			return nil, err
		}
	}
	if err != nil {
		if strings.Contains(err.Error(), "actual cost limit exceeded") {
			return nil, errs.New(errs.Invalid, "validation failed due to running out of cost budget, no further validation rules will be run")
		}
		return nil, errs.New(errs.Invalid, "expression '%s' resulted in error: %w", p.Expression, err)
	}
	return v, nil
}

// Bool runs the program and reads its result.
func (p *Program) Bool(ctx context.Context, in *Input) (bool, error) {
	v, err := p.Run(ctx, in)
	if err != nil {
		return false, err
	}
	b, ok := v.Value().(bool)
	if !ok {
		return false, errs.New(errs.Invalid, "expression '%s' came to %s, not to a bool", p.Expression, v.Type().TypeName())
	}
	return b, nil
}

// Text runs the program; null is "".
func (p *Program) Text(ctx context.Context, in *Input) (string, error) {
	v, err := p.Run(ctx, in)
	if err != nil || v == types.NullValue {
		return "", err
	}
	s, ok := v.Value().(string)
	if !ok {
		return "", errs.New(errs.Invalid, "expression '%s' came to %s, not to a string", p.Expression, v.Type().TypeName())
	}
	return s, nil
}

// Patches reads the JSON patch operations an expression of kind JSONPatch came to.
func Patches(v ref.Val) ([]*mutation.JSONPatchVal, error) {
	list, ok := v.(traits.Lister)
	if !ok {
		return nil, errors.New("the expression did not come to a list")
	}
	var out []*mutation.JSONPatchVal
	for it := list.Iterator(); it.HasNext() == types.True; {
		x, err := it.Next().ConvertToNative(reflect.TypeFor[*mutation.JSONPatchVal]())
		if err != nil {
			return nil, err
		}
		op, ok := x.(*mutation.JSONPatchVal)
		if !ok {
			return nil, fmt.Errorf("an element of the patch is a %T", x)
		}
		out = append(out, op)
	}
	return out, nil
}
