// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	goflag "flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

var update = goflag.Bool("update", false, "rewrite the faults in testdata/bad")

// TestBadObjectsOfEveryKind: testdata/bad has a file for each kind, of paragraphs: a change to the kind's sample, as YAML,
// and below it a line "! fault" for everything that is wrong with the sample then, metadata included.
func TestBadObjectsOfEveryKind(t *testing.T) {
	const least = 3
	files, err := filepath.Glob("testdata/bad/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(All) {
		t.Errorf("%d files of bad objects, %d kinds", len(files), len(All))
	}
	for _, k := range All {
		t.Run(k.Kind, func(t *testing.T) {
			file := "testdata/bad/" + k.Singular + ".txt"
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("every kind has bad objects: %v", err)
			}
			bad := strings.Split(strings.TrimSpace(string(raw)), "\n\n")
			if len(bad) < least {
				t.Errorf("%d bad objects; at least %d are wanted", len(bad), least)
			}
			for i, paragraph := range bad {
				change, want, _ := strings.Cut(paragraph, "\n! ")
				got := "! " + strings.Join(texts(faultsOf(t, k, change)), "\n! ")
				if got == "! " {
					t.Errorf("nothing is wrong with\n%s", change)
				}
				bad[i] = change + "\n" + got
				if !*update && got != "! "+want {
					t.Errorf("%s\nis\n%s\nand should be\n! %s", change, got, want)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.Join(bad, "\n\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// faultsOf changes the sample, settles it as the server does, and judges it.
func faultsOf(t *testing.T, k *Type, change string) field.ErrorList {
	t.Helper()
	base, err := os.ReadFile("testdata/" + k.Singular + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := yaml.YAMLToJSON(base)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := yaml.YAMLToJSONStrict([]byte(change))
	if err != nil {
		t.Fatalf("%s: %v", change, err)
	}
	if doc, err = jsonpatch.MergePatch(doc, patch); err != nil {
		t.Fatal(err)
	}
	o := k.New()
	if err := yaml.UnmarshalStrict(doc, o); err != nil {
		t.Fatalf("%s: %v", change, err)
	}
	if !k.Cluster && o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	k.Default(o)
	k.BeforeCreate(o)
	k.Default(o)
	list := validation.ValidateObjectMetaAccessor(o, !k.Cluster, k.ValidateName, field.NewPath("metadata"))
	return append(list, k.Validate(o)...)
}
