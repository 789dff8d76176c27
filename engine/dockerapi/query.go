// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// truth reads a boolean query parameter as Docker does: anything but "", 0, no, false and none is true.
func truth(r *http.Request, name string) bool {
	switch strings.ToLower(strings.TrimSpace(r.URL.Query().Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// seconds reads a number of seconds; nil when it is absent.
func seconds(r *http.Request, name string) (*time.Duration, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return nil, errs.New(errs.Invalid, "parameter %s: want seconds, not %q", name, v)
	}
	d := time.Duration(n) * time.Second
	return &d, nil
}

// moment reads a time given as seconds[.nanoseconds] since 1970; zero when it is absent.
func moment(r *http.Request, name string) (time.Time, error) {
	v := r.URL.Query().Get(name)
	if v == "" || v == "0" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return t, nil
	}
	sec, frac, _ := strings.Cut(v, ".")
	s, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, errs.New(errs.Invalid, "parameter %s: want a time, not %q", name, v)
	}
	var ns uint64
	if frac != "" {
		if ns, err = strconv.ParseUint((frac + "000000000")[:9], 10, 32); err != nil {
			return time.Time{}, errs.New(errs.Invalid, "parameter %s: want a time, not %q", name, v)
		}
	}
	return time.Unix(s, int64(ns)), nil
}

// filters are Docker's: a name has values, any of which may hold; all names must.
type filters map[string][]string

// readFilters decodes the filters parameter, in both of its forms, and refuses a name that is not known.
func readFilters(r *http.Request, known ...string) (filters, error) {
	v := r.URL.Query().Get("filters")
	if v == "" {
		return nil, nil
	}
	out := filters{}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(v), &sets); err == nil {
		for name, values := range sets {
			for value := range values {
				out[name] = append(out[name], value)
			}
		}
	} else if err := json.Unmarshal([]byte(v), &out); err != nil {
		return nil, errs.New(errs.Invalid, "parameter filters: %w", err)
	}
	for name := range out {
		if !slices.Contains(known, name) {
			return nil, errs.New(errs.Invalid, "invalid filter '%s'; want one of %s", name, strings.Join(known, ", "))
		}
	}
	return out, nil
}

// any says whether a filter is absent or one of its values holds.
func (f filters) any(name string, holds func(value string) bool) bool {
	values, ok := f[name]
	return !ok || slices.ContainsFunc(values, holds)
}

// labels says whether all label filters hold: "key" or "key=value".
func (f filters) labels(have map[string]string) bool {
	for _, want := range f["label"] {
		k, v, withValue := strings.Cut(want, "=")
		got, ok := have[k]
		if !ok || withValue && got != v {
			return false
		}
	}
	return true
}

// flag reads a boolean filter; def when it is absent.
func (f filters) flag(name string, def bool) bool {
	v, ok := f[name]
	if !ok || len(v) == 0 {
		return def
	}
	return v[0] == "1" || strings.EqualFold(v[0], "true")
}
