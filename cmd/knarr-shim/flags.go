// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

// flags are the options of one command. A name with true takes a value.
type flags map[string]bool

// parse sorts args into options and the rest. It knows --name, --name=value, --name value, one-letter options and "--". The rest
// starts at the first word that is no option, so that a program's own options stay its own.
func (f flags) parse(args []string) (opts map[string][]string, rest []string, err error) {
	opts = map[string][]string{}
	for len(args) > 0 {
		a := args[0]
		if a == "--" {
			return opts, args[1:], nil
		}
		if len(a) < 2 || a[0] != '-' {
			return opts, args, nil
		}
		args = args[1:]
		name, value, hasValue := strings.Cut(strings.TrimLeft(a, "-"), "=")
		takes, known := f[name]
		switch {
		case !known:
			return nil, nil, errs.New(errs.Invalid, "unknown option %s", a)
		case takes && !hasValue && len(args) == 0:
			return nil, nil, errs.New(errs.Invalid, "option %s needs a value", a)
		case takes && !hasValue:
			value, args = args[0], args[1:]
		case !takes && !hasValue:
			value = "true"
		}
		opts[name] = append(opts[name], value)
	}
	return opts, nil, nil
}

// options gives the last value of an option, as later ones win.
type options map[string][]string

func (o options) get(names ...string) string {
	for _, n := range names {
		if v := o[n]; len(v) > 0 {
			return v[len(v)-1]
		}
	}
	return ""
}

func (o options) is(names ...string) bool { return o.get(names...) == "true" }
