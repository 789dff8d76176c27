// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Foreign is what an aggregated API server says of one group and version.
type Foreign struct {
	GroupVersion schema.GroupVersion
	V2           []byte // its paths and schemas, version 2 as JSON; empty when it has none
	Hash         string // of its version 3 document, which the caller serves; "" when it has none
}

func (f Foreign) same(g Foreign) bool {
	return f.GroupVersion == g.GroupVersion && f.Hash == g.Hash && bytes.Equal(f.V2, g.V2)
}

// merge adds what others say to our own. Schemas of the same name that differ are renamed; a document that cannot be read
// is left out: it must not take ours along.
func merge(own *spec.Swagger, others []Foreign) (*spec.Swagger, error) {
	for _, f := range others {
		doc := &spec.Swagger{}
		if len(f.V2) == 0 || json.Unmarshal(f.V2, doc) != nil || doc.Paths == nil {
			continue
		}
		if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(own, doc); err != nil {
			return nil, fmt.Errorf("merge what the server of %s says: %w", f.GroupVersion, err)
		}
	}
	return own, nil
}
