// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/knarr/knarr/kinds"
)

var update = flag.Bool("update", false, "rewrite markers.txt from the modules' source")

// TestMarkersAreThoseOfTheSource reads the comments of the Go types we serve and compares what they say with markers.txt.
func TestMarkersAreThoseOfTheSource(t *testing.T) {
	var b strings.Builder
	b.WriteString("# From the comments of the Go types; see markers.go. Written by go test ./apiserver/openapi -update\n")
	types := reachable()
	packages := map[string]map[string]bool{}
	for _, x := range types {
		if packages[x.PkgPath()] == nil {
			packages[x.PkgPath()] = map[string]bool{}
		}
		packages[x.PkgPath()][x.Name()] = true
	}
	paths := slices.Sorted(maps.Keys(packages))
	out, err := exec.Command("go", append([]string{"list", "-f", "{{.ImportPath}} {{.Dir}}"}, paths...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		scan(t, &b, path, dir, packages[path])
	}
	if *update {
		if err := os.WriteFile("markers.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if b.String() != markersText {
		t.Error("markers.txt is not what the modules in use say: run go test ./apiserver/openapi -update")
	}
}

// reachable are the named types below every kind in the scheme.
func reachable() []reflect.Type {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(x reflect.Type) {
		switch x.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
			if x.Name() == "" || x.PkgPath() == "" {
				walk(x.Elem())
				return
			}
		}
		if seen[x] || !strings.HasPrefix(x.PkgPath(), "k8s.io/api") {
			return
		}
		seen[x] = true
		switch x.Kind() {
		case reflect.Struct:
			for i := range x.NumField() {
				if x.Field(i).IsExported() {
					walk(x.Field(i).Type)
				}
			}
		case reflect.Slice, reflect.Map:
			walk(x.Elem())
		}
	}
	for _, x := range kinds.Scheme().AllKnownTypes() {
		walk(x)
	}
	return slices.Collect(maps.Keys(seen))
}

func scan(t *testing.T, b *strings.Builder, path, dir string, want map[string]bool) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := source{map[string]*ast.TypeSpec{}, map[string]string{}, map[string]string{}, map[string][]string{}}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(filepath.Base(name), "zz_") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				found.add(g)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if found.types[name] != nil {
			describe(b, path, found.types[name], found.docs[name], found.consts, found.values[name])
		}
	}
}

// source is what one package declares.
type source struct {
	types  map[string]*ast.TypeSpec
	docs   map[string]string   // of types
	consts map[string]string   // string constants
	values map[string][]string // of the constants of a type
}

func (f source) add(g *ast.GenDecl) {
	for _, s := range g.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			f.types[s.Name.Name] = s
			f.docs[s.Name.Name] = g.Doc.Text() + markersIn(g.Doc) + markersIn(s.Doc)
		case *ast.ValueSpec:
			typed, _ := s.Type.(*ast.Ident)
			for i := range s.Names {
				lit, ok := value(s, i)
				if !ok {
					continue
				}
				f.consts[s.Names[i].Name] = lit
				if typed != nil {
					f.values[typed.Name] = append(f.values[typed.Name], lit)
				}
			}
		}
	}
}

func value(s *ast.ValueSpec, i int) (string, bool) {
	if i >= len(s.Values) {
		return "", false
	}
	lit, ok := s.Values[i].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	v, err := strconv.Unquote(lit.Value)
	return v, err == nil
}

// markersIn are the lines that begin with a plus; CommentGroup.Text drops some of them.
func markersIn(g *ast.CommentGroup) string {
	out := ""
	if g != nil {
		for _, c := range g.List {
			if line := strings.TrimSpace(strings.TrimPrefix(c.Text, "//")); strings.HasPrefix(line, "+") {
				out += line + "\n"
			}
		}
	}
	return out
}

func describe(b *strings.Builder, path string, s *ast.TypeSpec, doc string, consts map[string]string, enum []string) {
	head := ""
	if has(doc, "structType") == "atomic" {
		head += " struct=atomic"
	}
	if regexp.MustCompile(`(?m)^\+enum$`).MatchString(doc) && len(enum) > 0 {
		slices.Sort(enum)
		enum = slices.DeleteFunc(slices.Compact(enum), func(v string) bool { return v == "" || strings.ContainsAny(v, " ,") })
		head += " enum=" + strings.Join(enum, ",")
	}
	lines := ""
	if st, ok := s.Type.(*ast.StructType); ok {
		for _, f := range st.Fields.List {
			lines += describeField(f, consts)
		}
	}
	if head+lines != "" {
		fmt.Fprintf(b, "%s.%s%s\n%s", path, s.Name.Name, head, lines)
	}
}

func describeField(f *ast.Field, consts map[string]string) string {
	if f.Tag == nil {
		return ""
	}
	tag, _ := strconv.Unquote(f.Tag.Value)
	name, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
	if name == "" || name == "-" {
		return ""
	}
	doc := markersIn(f.Doc)
	words := ""
	for _, m := range [][2]string{{"listType", "list"}, {"mapType", "map"}, {"structType", "struct"}} {
		if v := has(doc, m[0]); v != "" {
			words += " " + m[1] + "=" + v
		}
	}
	if keys := regexp.MustCompile(`(?m)^\+listMapKey=(.*)$`).FindAllStringSubmatch(doc, -1); keys != nil {
		var list []string
		for _, k := range keys {
			list = append(list, k[1])
		}
		words += " keys=" + strings.Join(list, ",")
	}
	if v := has(doc, "default"); v != "" {
		if ref, ok := strings.CutPrefix(v, "ref("); ok {
			v = strconv.Quote(consts[strings.TrimSuffix(ref, ")")])
		}
		words += " default=" + v
	}
	if regexp.MustCompile(`(?m)^\+optional\b`).MatchString(doc) && !strings.Contains(options, "omit") {
		words += " optional"
	}
	if words == "" {
		return ""
	}
	return " " + name + words + "\n"
}

func has(doc, marker string) string {
	m := regexp.MustCompile(`(?m)^\+` + marker + `=(\S+)\s*$`).FindStringSubmatch(doc)
	if m == nil {
		return ""
	}
	return m[1]
}
