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
	t, err := parseMoment(v)
	if err != nil {
		return t, errs.New(errs.Invalid, "parameter %s: want a time, not %q", name, v)
	}
	return t, nil
}

func parseMoment(v string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return t, nil
	}
	sec, frac, _ := strings.Cut(v, ".")
	s, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	var ns uint64
	if frac != "" {
		if ns, err = strconv.ParseUint((frac + "000000000")[:9], 10, 32); err != nil {
			return time.Time{}, err
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
			slices.Sort(known)
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

// labels says whether all label filters hold: "key" or "key=value"; and none of those of "label!".
func (f filters) labels(have map[string]string) bool {
	for _, want := range f["label"] {
		if !pairHolds(have, want) {
			return false
		}
	}
	for _, not := range f["label!"] {
		if pairHolds(have, not) {
			return false
		}
	}
	return true
}

func pairHolds(have map[string]string, want string) bool {
	k, v, withValue := strings.Cut(want, "=")
	got, ok := have[k]
	return ok && (!withValue || got == v)
}

// oneOf refuses a value of a filter that is none of those there are.
func (f filters) oneOf(name string, values ...string) error {
	for _, v := range f[name] {
		if !slices.Contains(values, v) {
			return errs.New(errs.Invalid, "invalid filter '%s=%s'; want one of %s", name, v, strings.Join(values, ", "))
		}
	}
	return nil
}

// until reads the filter of that name: a time, or how long ago. Zero when it is absent.
func (f filters) until(now time.Time) (time.Time, error) {
	v := f["until"]
	switch {
	case len(v) == 0:
		return time.Time{}, nil
	case len(v) > 1:
		return time.Time{}, errs.New(errs.Invalid, "more than one until filter specified")
	}
	if d, err := time.ParseDuration(v[0]); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v[0], time.Local); err == nil {
			return t, nil
		}
	}
	t, err := parseMoment(v[0])
	if err != nil {
		return t, errs.New(errs.Invalid, "invalid filter 'until=%s': want a time or a duration", v[0])
	}
	return t, nil
}

// flag reads a boolean filter; def when it is absent.
func (f filters) flag(name string, def bool) bool {
	v, ok := f[name]
	if !ok || len(v) == 0 {
		return def
	}
	return v[0] == "1" || strings.EqualFold(v[0], "true")
}
