// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

// junit is what we read of a JUnit file.
type junit struct {
	Suites []struct {
		Cases []struct {
			Name    string    `xml:"name,attr"`
			Status  string    `xml:"status,attr"`
			Skipped *struct{} `xml:"skipped"`
			Failure *struct {
				Message string `xml:"message,attr"`
			} `xml:"failure"`
			Error *struct {
				Message string `xml:"message,attr"`
			} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

type count struct{ passed, failed int }

var area = regexp.MustCompile(`\[(sig-[a-z-]+)\]`)

// report prints what passed, by area, and the failed ones with the first line of why; it returns how many failed.
func report(path string, w io.Writer) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("the run left no result: %w", err)
	}
	var doc junit
	if err := xml.Unmarshal(data, &doc); err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	areas, sum := map[string]*count{}, count{}
	var failures []string
	for _, s := range doc.Suites {
		for _, c := range s.Cases {
			m := area.FindStringSubmatch(c.Name)
			if m == nil || c.Skipped != nil || c.Status == "skipped" {
				continue
			}
			n := areas[m[1]]
			if n == nil {
				n = &count{}
				areas[m[1]] = n
			}
			why := ""
			switch {
			case c.Failure != nil:
				why = c.Failure.Message
			case c.Error != nil:
				why = c.Error.Message
			default:
				n.passed++
				sum.passed++
				continue
			}
			n.failed++
			sum.failed++
			line, _, _ := strings.Cut(strings.TrimSpace(why), "\n")
			failures = append(failures, strings.TrimPrefix(c.Name, "[It] ")+"\n    "+line)
		}
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "area\tpassed\tfailed\t")
	for _, a := range slices.Sorted(maps.Keys(areas)) {
		fmt.Fprintf(t, "%s\t%d\t%d\t\n", a, areas[a].passed, areas[a].failed)
	}
	fmt.Fprintf(t, "all\t%d\t%d\t\n", sum.passed, sum.failed)
	if err := t.Flush(); err != nil {
		return 0, err
	}
	slices.Sort(failures)
	for _, f := range failures {
		fmt.Fprintln(w, "FAILED", f)
	}
	return sum.failed, nil
}
