// SPDX-License-Identifier: Apache-2.0

// Package openapi describes the API in OpenAPI: version 2 in one document, version 3 in one document for each group and
// version, as kubectl and every other client expects them at /openapi/v2 and /openapi/v3.
//
// Everything is derived: the paths from kinds.Type (what is namespaced, has a status, can be scaled), the schemas by
// reflection from the Go types themselves with the texts of their SwaggerDoc methods, and what only the comments of those
// types' source say (list types and their keys, defaults, enumerations) from markers.txt, which a test keeps equal to the
// source of the modules in use. A new kind needs nothing here.
//
// A document is built when it is first asked for and kept only as compressed bytes with the hash of its content; the trees
// it was made from are garbage at once. The package starts no goroutine.
//
//	openapi.go      Docs: what is asked for, built once
//	serve.go        content negotiation, ETags, hashes
//	definitions.go  Go types to schemas
//	paths.go        kinds to operations
//	subresources.go the parts and orders below an object
//	markers.go      the facts from comments
//	custom.go       kinds defined at runtime
//	foreign.go      what other API servers say of themselves
package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/knarr/knarr/internal/version"
	"github.com/knarr/knarr/kinds"
)

// Docs are the documents of one API. Safe for concurrent use.
type Docs struct {
	program []*kinds.Type // of the program itself
	types   []*kinds.Type // those, and those defined at runtime
	foreign []Foreign

	mu    sync.Mutex // guards the rest; held while a document is built, so that it is built once
	built map[string]*document
}

// document is one document in one encoding.
type document struct {
	gz   []byte
	hash string // of the content before compression
}

// New is for the API that serves the types of these lists (kinds.All, kinds.Virtual); nothing is built until it is asked for.
func New(lists ...[]*kinds.Type) *Docs {
	all := slices.Concat(lists...)
	return &Docs{program: all, types: all, built: map[string]*document{}}
}

// groupVersions are all those served, in the order of the types.
func (d *Docs) groupVersions() []schema.GroupVersion {
	var out []schema.GroupVersion
	for _, t := range d.types {
		for _, v := range t.Served {
			if !slices.Contains(out, v.GroupVersion()) {
				out = append(out, v.GroupVersion())
			}
		}
	}
	return out
}

// path is where a group and version live below /openapi/v3/: api/v1, apis/apps/v1.
func path(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

// once answers the document called name, which make builds when it is first asked for.
func (d *Docs) once(name string, make func() ([]byte, error)) (*document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doc := d.built[name]; doc != nil {
		return doc, nil
	}
	raw, err := make()
	if err != nil {
		return nil, fmt.Errorf("build the OpenAPI document %s: %w", name, err)
	}
	doc, err := pack(raw)
	if err != nil {
		return nil, fmt.Errorf("compress the OpenAPI document %s: %w", name, err)
	}
	d.built[name] = doc
	return doc, nil
}

func pack(raw []byte) (*document, error) {
	buf := &bytes.Buffer{}
	w := gzip.NewWriter(buf)
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	sum := sha512.Sum512(raw)
	return &document{gz: bytes.Clone(buf.Bytes()), hash: hex.EncodeToString(sum[:])}, nil
}

// v2 is the whole API as JSON, or as the protobuf of the same tree.
func (d *Docs) v2(protobuf bool) (*document, error) {
	all := func() ([]byte, error) {
		doc, err := merge(d.swagger(func(schema.GroupVersion) bool { return true }), d.foreign)
		if err != nil {
			return nil, err
		}
		return json.Marshal(doc)
	}
	if !protobuf {
		return d.once("v2", all)
	}
	return d.once("v2 protobuf", func() ([]byte, error) {
		raw, err := all()
		if err != nil {
			return nil, err
		}
		doc, err := openapiv2.ParseDocument(raw)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(doc)
	})
}

// v3 is one group and version.
func (d *Docs) v3(gv schema.GroupVersion, protobuf bool) (*document, error) {
	make := func() ([]byte, error) {
		doc := openapiconv.ConvertV2ToV3(d.swagger(func(g schema.GroupVersion) bool { return g == gv }))
		widen(doc.Components.Schemas)
		if err := whole(d.of(gv), doc.Components.Schemas); err != nil {
			return nil, err
		}
		return json.Marshal(doc)
	}
	if !protobuf {
		return d.once("v3 "+path(gv), make)
	}
	return d.once("v3 protobuf "+path(gv), func() ([]byte, error) {
		raw, err := make()
		if err != nil {
			return nil, err
		}
		doc, err := openapiv3.ParseDocument(raw)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(doc)
	})
}

// widen restores what version 2 cannot say: a quantity may be written as a number, an int-or-string as either.
func widen(schemas map[string]*spec.Schema) {
	for name, types := range map[string][]string{
		"io.k8s.apimachinery.pkg.api.resource.Quantity":   {"string", "number"},
		"io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"integer", "string"},
	} {
		s := schemas[name]
		if s == nil {
			continue
		}
		s.Type = nil
		for _, t := range types {
			s.OneOf = append(s.OneOf, spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{t}}})
		}
	}
}

// swagger is the tree of those groups and versions that want picks.
func (d *Docs) swagger(want func(schema.GroupVersion) bool) *spec.Swagger {
	defs := newDefinitions()
	for _, t := range d.types {
		if t.Custom != nil {
			defs.defined = append(defs.defined, t)
		}
	}
	paths := &paths{defs: defs, out: map[string]spec.PathItem{}}
	for _, t := range d.types {
		for i := range t.Served {
			if v := &t.Served[i]; want(v.GroupVersion()) {
				paths.add(t, v, subresources(t))
			}
		}
	}
	return &spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger:     "2.0",
		Info:        &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: version.Kubernetes}},
		Paths:       &spec.Paths{Paths: paths.out},
		Definitions: defs.out,
		SecurityDefinitions: spec.SecurityDefinitions{"BearerToken": &spec.SecurityScheme{SecuritySchemeProps: spec.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
		}}},
		Security: []map[string][]string{{"BearerToken": {}}},
	}}
}
