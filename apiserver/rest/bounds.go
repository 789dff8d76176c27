// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/yaml"

	"github.com/knarr/knarr/kinds"
)

// Bounds of a body's structure, beside its size: a few kilobytes of YAML aliases or brackets must not cost seconds.
const (
	maxDepth   = 512
	maxAliases = 512
)

// CheckBody refuses what would cost more to parse than its size promises, in one pass over the bytes. It is not a parser:
// it may count a bracket inside of a YAML comment, never miss one that counts.
func CheckBody(data []byte, f Format) error {
	switch f {
	case JSON:
		return checkJSON(data)
	case YAML:
		return checkYAML(data)
	}
	return nil
}

func checkJSON(data []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return tooDeep()
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

func tooDeep() error {
	return apierrors.NewBadRequest(fmt.Sprintf("the body is nested more than %d levels deep", maxDepth))
}

// checkYAML bounds indentation, brackets and the use of aliases, whose expansion multiplies.
func checkYAML(data []byte) error {
	open, aliases := 0, 0
	for line := range bytes.Lines(data) {
		text := bytes.TrimLeft(line, " ")
		if len(line)-len(text) > 4*maxDepth {
			return tooDeep()
		}
		dashes := 0
		for i, c := range text {
			switch c {
			case '-':
				if i+1 < len(text) && text[i+1] == ' ' {
					if dashes++; dashes > maxDepth {
						return tooDeep()
					}
				}
			case '{', '[':
				if open++; open > maxDepth {
					return tooDeep()
				}
			case '}', ']':
				open = max(0, open-1)
			case '*':
				if i == 0 || text[i-1] == ' ' || text[i-1] == '[' || text[i-1] == ',' || text[i-1] == ':' {
					aliases++
				}
			}
		}
	}
	if aliases > maxAliases || aliases > 8 && bombs(data) {
		return apierrors.NewBadRequest("the body uses too many YAML aliases")
	}
	return nil
}

// bombs: an anchored node that itself holds aliases is how expansion becomes exponential.
func bombs(data []byte) bool {
	nested := 0
	for line := range bytes.Lines(data) {
		if bytes.Contains(line, []byte(" &")) && bytes.Contains(line, []byte("*")) {
			nested++
		}
	}
	return nested > 2
}

// checkQuantities refuses a body, of kind gvk where it does not say, that has a number which would take minutes to read.
func checkQuantities(data []byte, f Format, gvk schema.GroupVersionKind) error {
	if f == Protobuf {
		const magic = 4
		var envelope runtime.Unknown
		if len(data) < magic || envelope.Unmarshal(data[magic:]) != nil {
			return nil // the decoder will say why
		}
		obj := newOf(schema.FromAPIVersionAndKind(envelope.APIVersion, envelope.Kind), gvk)
		if obj == nil {
			return nil
		}
		return kinds.CheckProto(envelope.Raw, obj)
	}
	if !kinds.Vast(data) {
		return nil
	}
	if f == YAML {
		var err error
		if data, err = yaml.YAMLToJSON(data); err != nil {
			return nil
		}
	}
	said, err := jsonserializer.DefaultMetaFactory.Interpret(data)
	if err != nil {
		return nil
	}
	obj := newOf(*said, gvk)
	if obj == nil {
		return nil
	}
	return kinds.CheckJSON(data, obj)
}

// newOf is an empty object of the kind that a body says it is; what it does not say is as in gvk.
func newOf(said, gvk schema.GroupVersionKind) runtime.Object {
	if said.Kind == "" {
		said.Kind = gvk.Kind
	}
	if said.Version == "" {
		said.Group, said.Version = gvk.Group, gvk.Version
	}
	obj, err := kinds.Scheme().New(said)
	if err != nil {
		return nil
	}
	return obj
}
