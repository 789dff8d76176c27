// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// Docker's media types beside OCI's.
const (
	dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerListType     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfigType   = "application/vnd.docker.container.image.v1+json"
	dockerLayerType    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// manifestTypes are the documents that lead to an image.
var manifestTypes = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerManifestType, dockerListType}

// manifestDoc is a manifest or an index; parseManifest says which.
type manifestDoc struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Config        ocispec.Descriptor   `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`

	isIndex bool
}

// parseManifest decodes a manifest or an index. mediaType is what its carrier (a header, a descriptor) called it, or "".
// A document that could be read as either, or that contradicts its carrier, is refused: two programs that read one digest
// differently run different images (CVE-2021-41190).
func parseManifest(data []byte, mediaType string) (manifestDoc, error) {
	var doc manifestDoc
	var keys map[string]json.RawMessage
	if int64(len(data)) > maxManifestSize {
		return doc, errs.New(errs.TooLarge, "manifest is larger than %d bytes", int64(maxManifestSize))
	}
	if err := json.Unmarshal(data, &keys); err != nil {
		return doc, errs.New(errs.Invalid, "malformed manifest: %w", err)
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return doc, errs.New(errs.Invalid, "malformed manifest: %w", err)
	}
	if doc.SchemaVersion != 2 || keys["fsLayers"] != nil {
		return doc, errs.New(errs.Unsupported, "manifest has schema version %d; only version 2 is supported", doc.SchemaVersion)
	}
	hasImage := keys["layers"] != nil || keys["config"] != nil
	doc.isIndex = keys["manifests"] != nil
	if hasImage && doc.isIndex {
		return doc, errs.New(errs.Invalid, "ambiguous manifest: it has both layers and manifests")
	}
	if !hasImage && !doc.isIndex {
		return doc, errs.New(errs.Invalid, "manifest has neither layers nor manifests")
	}
	return doc, doc.check(mediaType)
}

func (doc *manifestDoc) check(mediaType string) error {
	if doc.MediaType != "" && slices.Contains(manifestTypes, mediaType) && mediaType != doc.MediaType {
		return errs.New(errs.Invalid, "ambiguous manifest: it says it is %.100q but came as %q", doc.MediaType, mediaType)
	}
	for _, mt := range []string{doc.MediaType, mediaType} {
		if slices.Contains(manifestTypes, mt) && isIndexType(mt) != doc.isIndex {
			return errs.New(errs.Invalid, "ambiguous manifest: its content is not what its type %q says", mt)
		}
	}
	if doc.MediaType != "" && !slices.Contains(manifestTypes, doc.MediaType) {
		return errs.New(errs.Unsupported, "manifest type %.100q is not an image", doc.MediaType)
	}
	if len(doc.Layers) > maxLayers || len(doc.Manifests) > 1000 {
		return errs.New(errs.TooLarge, "manifest lists %d layers and %d manifests", len(doc.Layers), len(doc.Manifests))
	}
	if doc.isIndex {
		return nil
	}
	if err := checkDigest(doc.Config.Digest); err != nil {
		return err
	}
	for _, l := range doc.Layers {
		if err := checkDigest(l.Digest); err != nil {
			return err
		}
		if l.Size < 0 {
			return errs.New(errs.Invalid, "layer %s has a negative size", l.Digest)
		}
	}
	return nil
}

func isIndexType(mt string) bool { return mt == ocispec.MediaTypeImageIndex || mt == dockerListType }
