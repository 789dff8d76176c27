// SPDX-License-Identifier: Apache-2.0

// Package test holds what concerns the whole tree: the house rules, the end-to-end tests and the scripts.
package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/knarr/knarr/"

// source is one parsed Go file of the project.
type source struct {
	path string // relative to the root
	dir  string
	test bool
	file *ast.File
	fset *token.FileSet
	text []string // its lines
}

func (s source) at(pos token.Pos) string {
	p := s.fset.Position(pos)
	return fmt.Sprintf("%s:%d", s.path, p.Line)
}

// allowed says whether the line at pos carries an exception with its reason: //house:allow <rule>: <reason>.
func (s source) allowed(pos token.Pos, rule string) bool {
	line := s.text[s.fset.Position(pos).Line-1]
	_, reason, ok := strings.Cut(line, "//house:allow "+rule+": ")
	return ok && strings.TrimSpace(reason) != ""
}

// fakeTime: in a test of testing/synctest a sleep takes no time and ends when everybody waits.
func (s source) fakeTime() bool {
	return s.test && slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	fset := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(filepath.ToSlash(path), "../")
		out = append(out, source{
			path: rel, dir: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"),
			file: f, fset: fset, text: strings.Split(string(text), "\n"),
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 5 {
		t.Fatalf("found only %d Go files: the walk is broken", len(out))
	}
	return out
}

// layers say who may import whom: a package may import those of its own line's allowed list and of its own layer's
// folder below itself. The first entry whose prefix matches a package is its layer.
var layers = []struct {
	prefix string
	may    []string
	why    string
}{
	{"cmd/knarr-shim", []string{"engine/oci", "engine/shim", "engine/cgroup", "internal"}, "one shim runs per container: each import costs memory there"},
	{"cmd/knarrd", []string{"daemon", "internal"}, "main is flags and one call"},
	{"cmd/knarr", []string{"cli", "internal"}, "the command is a client of the daemon's sockets and starts in a few ms"},
	{"cli", []string{"internal"}, "the command is a client of the daemon's sockets and starts in a few ms"},
	{"daemon", []string{"apiserver", "controllers", "scheduler", "kubelet", "proxy", "dns", "web", "state", "kinds", "engine", "internal"}, "daemon is the composition root"},
	{"engine/dockerapi", []string{"engine/container", "engine/build", "engine/image", "engine/volume", "engine/network", "internal"}, "edges sit on the engine's nouns"},
	{"engine/cri", []string{"engine/container", "engine/image", "internal"}, "edges sit on the engine's nouns"},
	{"engine/container", []string{"engine/image", "engine/volume", "engine/network", "engine/shim", "engine/oci", "engine/cgroup", "engine/build", "engine/layer", "internal"}, "a container joins the parts below it"},
	{"engine/build", []string{"engine/image", "engine/layer", "internal"}, "build makes images; running a step is the caller's"},
	{"engine/shim", []string{"engine/oci", "engine/cgroup", "internal"}, "the monitor runs what oci makes"},
	{"engine/oci", []string{"engine/cgroup", "internal"}, "the runtime needs only cgroups"},
	{"engine/image", []string{"engine/layer", "internal"}, "images are made of layers"},
	{"engine/layer", []string{"internal"}, "a layer knows no image"},
	{"engine", []string{"internal"}, "image, volume, network and cgroup are leaves of the engine"},
	{"apiserver", []string{"state", "kinds", "apiserver", "internal"}, "neighbours meet in the store"},
	{"controllers", []string{"state", "kinds", "controllers", "internal"}, "neighbours meet in the store"},
	{"scheduler", []string{"state", "kinds", "internal"}, "neighbours meet in the store"},
	{"kubelet", []string{"state", "kinds", "kubelet", "internal"}, "neighbours meet in the store; the engine is met in daemon"},
	{"proxy", []string{"state", "kinds", "internal"}, "neighbours meet in the store"},
	{"dns", []string{"state", "kinds", "internal"}, "neighbours meet in the store"},
	{"web", []string{"state", "kinds", "internal"}, "neighbours meet in the store"},
	{"state", []string{"state", "kinds", "internal"}, "state knows only kinds"},
	{"kinds", []string{"internal"}, "kinds are pure descriptions"},
	{"internal", []string{"internal"}, "leaves know nobody"},
	{"examples", nil, "an example stands alone"},
}

func under(pkg, prefix string) bool { return pkg == prefix || strings.HasPrefix(pkg, prefix+"/") }

func TestImportsFollowTheArrows(t *testing.T) {
	for _, s := range sources(t) {
		if s.test { // tests may use real neighbours: that is how they are tested
			continue
		}
		i := slices.IndexFunc(layers, func(l struct {
			prefix string
			may    []string
			why    string
		}) bool {
			return under(s.dir, l.prefix)
		})
		if i < 0 {
			if s.dir != "test" && !strings.HasPrefix(s.dir, "test/") {
				t.Errorf("%s: package %s has no place in the layers: add it to test/house_test.go and docs/ARCHITECTURE.md", s.path, s.dir)
			}
			continue
		}
		l := layers[i]
		for _, imp := range s.file.Imports {
			path, ok := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module)
			if !ok || under(path, s.dir) || under(s.dir, path) && strings.HasSuffix(s.dir, "test") {
				continue
			}
			if !slices.ContainsFunc(l.may, func(m string) bool { return under(path, m) }) && !isTestSupport(s.dir) {
				t.Errorf("%s: %s must not import %s: %s", s.at(imp.Pos()), s.dir, path, l.why)
			}
		}
	}
}

// isTestSupport: fakes and conformance suites live in …test folders and may reach what they test.
func isTestSupport(dir string) bool { return strings.HasSuffix(dir, "test") }

func TestPackagesSayWhatTheyOwn(t *testing.T) {
	docs, names := map[string]string{}, map[string]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		names[s.dir] = s.file.Name.Name
		if s.file.Doc != nil {
			if d := s.file.Doc.Text(); len(d) > len(docs[s.dir]) {
				docs[s.dir] = d
			}
		}
	}
	for dir, name := range names {
		if d := docs[dir]; len(d) < 60 {
			t.Errorf("package %s (%s) has no doc: a newcomer must learn what it owns, what not, its invariants and goroutines", name, dir)
		}
	}
}

func TestFilesCarryTheLicenceLine(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.text[0], "// SPDX-License-Identifier: Apache-2.0") && !strings.HasPrefix(s.text[0], "// Code generated") {
			t.Errorf("%s: the first line is not the SPDX line: who copies one file must know its licence", s.path)
		}
	}
}

// calls that do harm, and where.
var forbidden = []struct {
	pkg, name string
	ok        func(s source) bool
	why       string
}{
	{"os", "Create", func(s source) bool { return s.test || s.dir == "internal/atomicfile" },
		"it truncates through a symbolic link and leaves half a file after a crash: use internal/atomicfile"},
	{"context", "Background", func(s source) bool {
		return s.test || strings.HasPrefix(s.dir, "cmd/") || isTestSupport(s.dir) || under(s.dir, "examples") || under(s.dir, "test")
	},
		"a context made here outlives the caller's: take it as an argument"},
	{"context", "TODO", func(s source) bool { return false }, "it outlives the caller's: take it as an argument"},
	{"time", "Sleep", func(s source) bool {
		return under(s.dir, "examples") || s.dir == "test/payload" || s.fakeTime()
	},
		"waiting for time instead of the event is slow and flaky: wait for what you mean, or use a timer in a select"},
	{"time", "Now", func(s source) bool {
		return s.test || filepath.Base(s.path) != "decide.go" && s.dir != "scheduler/place"
	}, "decisions are pure: time comes in through the state"},
	{"log", "Fatalf", func(s source) bool { return false }, "return the error; main exits"},
	{"log", "Fatal", func(s source) bool { return false }, "return the error; main exits"},
}

func TestForbiddenCalls(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, f := range forbidden {
				if x.Name == f.pkg && sel.Sel.Name == f.name && !f.ok(s) && !s.allowed(sel.Pos(), f.pkg+"."+f.name) {
					t.Errorf("%s: %s.%s: %s", s.at(sel.Pos()), f.pkg, f.name, f.why)
				}
			}
			return true
		})
	}
}

func TestNoInitAndNoMutableGlobals(t *testing.T) {
	globals := map[string]map[string]bool{} // dir -> names of package-level variables
	specs := map[any]bool{}                 // their declarations
	all := sources(t)
	for _, s := range all {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init(): what runs by itself cannot be read in order: list it explicitly", s.at(f.Pos()))
			}
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR || s.test {
				continue
			}
			if globals[s.dir] == nil {
				globals[s.dir] = map[string]bool{}
			}
			for _, spec := range g.Specs {
				specs[spec] = true
				for _, n := range spec.(*ast.ValueSpec).Names {
					if n.Name != "_" {
						globals[s.dir][n.Name] = true
					}
				}
			}
		}
	}
	for _, s := range all {
		if s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			var targets []ast.Expr
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					targets = n.Lhs
				}
			case *ast.IncDecStmt:
				targets = []ast.Expr{n.X}
			}
			for _, e := range targets {
				id := root(e)
				if id == nil || !globals[s.dir][id.Name] {
					continue
				}
				if id.Obj == nil || specs[id.Obj.Decl] { // another file's, or this file's own: not a local of the same name
					t.Errorf("%s: writes package-level variable %s: state belongs to a value that someone owns", s.at(e.Pos()), id.Name)
				}
			}
			return true
		})
	}
}

// root is the identifier that an assignment's left side starts with: x in x[i].f.
func root(e ast.Expr) *ast.Ident {
	for {
		switch v := e.(type) {
		case *ast.Ident:
			return v
		case *ast.IndexExpr:
			e = v.X
		case *ast.SelectorExpr:
			e = v.X
		case *ast.StarExpr:
			e = v.X
		default:
			return nil
		}
	}
}

func TestNoDrawers(t *testing.T) {
	for _, s := range sources(t) {
		switch b := filepath.Base(s.dir); b {
		case "util", "utils", "common", "helper", "helpers", "misc", "types", "shared", "base", "manager":
			t.Errorf("%s: a package named %s says nothing of what it owns", s.path, b)
		}
	}
}

// TestSizesAreAMirror prints what grew past the usual; it never fails.
func TestSizesAreAMirror(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if n := len(s.text); n > 600 {
			t.Logf("%s has %d lines: is there a second noun inside?", s.path, n)
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > 100 {
					t.Logf("%s: %s has %d lines", s.at(f.Pos()), f.Name.Name, n)
				}
			}
		}
	}
}
