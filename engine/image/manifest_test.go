// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

const zeroDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// Row 17: a document that two readers may understand differently is refused.
func TestAmbiguousManifests(t *testing.T) {
	cfg := `"config":{"digest":"` + zeroDigest + `"}`
	for name, c := range map[string]struct {
		doc, carrier string
		kind         error
	}{
		"manifest":                {`{"schemaVersion":2,` + cfg + `,"layers":[]}`, "", nil},
		"index":                   {`{"schemaVersion":2,"manifests":[]}`, ocispec.MediaTypeImageIndex, nil},
		"both":                    {`{"schemaVersion":2,` + cfg + `,"layers":[],"manifests":[]}`, "", errs.Invalid},
		"config and manifests":    {`{"schemaVersion":2,` + cfg + `,"manifests":[]}`, "", errs.Invalid},
		"null layers, manifests":  {`{"schemaVersion":2,"layers":[],"manifests":[{}]}`, "", errs.Invalid},
		"neither":                 {`{"schemaVersion":2}`, "", errs.Invalid},
		"index sent as manifest":  {`{"schemaVersion":2,"manifests":[]}`, ocispec.MediaTypeImageManifest, errs.Invalid},
		"manifest sent as index":  {`{"schemaVersion":2,` + cfg + `,"layers":[]}`, dockerListType, errs.Invalid},
		"says index, is manifest": {`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `",` + cfg + `,"layers":[]}`, "", errs.Invalid},
		"header against document": {`{"schemaVersion":2,"mediaType":"` + dockerManifestType + `",` + cfg + `,"layers":[]}`, ocispec.MediaTypeImageManifest, errs.Invalid},
		"schema 1":                {`{"schemaVersion":1,"fsLayers":[]}`, "", errs.Unsupported},
		"artifact":                {`{"schemaVersion":2,"mediaType":"application/x",` + cfg + `,"layers":[]}`, "", errs.Unsupported},
		"digest climbs":           {`{"schemaVersion":2,"config":{"digest":"sha256:../../../etc/passwd"},"layers":[]}`, "", errs.Invalid},
		"digest of another kind":  {`{"schemaVersion":2,"config":{"digest":"sha512:00"},"layers":[]}`, "", errs.Invalid},
		"negative size":           {`{"schemaVersion":2,` + cfg + `,"layers":[{"digest":"` + zeroDigest + `","size":-1}]}`, "", errs.Invalid},
		"a million layers":        {`{"schemaVersion":2,` + cfg + `,"layers":[` + strings.Repeat(`{"digest":"`+zeroDigest+`"},`, 20000) + `{}]}`, "", errs.TooLarge},
		"deep":                    {strings.Repeat(`{"a":`, 20000), "", errs.Invalid},
		"too large":               {`{"a":"` + strings.Repeat("x", maxManifestSize) + `"}`, "", errs.TooLarge},
		"no JSON":                 {`hello`, "", errs.Invalid},
	} {
		_, err := parseManifest([]byte(c.doc), c.carrier)
		if c.kind == nil && err != nil || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", name, err, c.kind)
		}
	}
}

func TestParseSpec(t *testing.T) {
	for name, c := range map[string]struct {
		doc  string
		kind error
	}{
		"good":            {`{"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"Healthcheck":{"Test":["CMD","x"]},"Shell":["/bin/bash"]}}`, nil},
		"no rootfs":       {`{}`, errs.Invalid},
		"bad diffID":      {`{"rootfs":{"type":"layers","diff_ids":["sha256:xyz"]}}`, errs.Invalid},
		"too many layers": {`{"rootfs":{"type":"layers","diff_ids":["` + zeroDigest + `"` + strings.Repeat(`,"`+zeroDigest+`"`, maxLayers) + `]}}`, errs.TooLarge},
		"wrong types":     {`{"rootfs":7}`, errs.Invalid},
	} {
		sp, err := parseSpec([]byte(c.doc))
		if c.kind == nil && (err != nil || sp.Config.Healthcheck == nil || sp.Config.Shell[0] != "/bin/bash") || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlatforms(t *testing.T) {
	for in, want := range map[string]string{"linux/amd64": "linux/amd64", "LINUX/x86_64": "linux/amd64", "aarch64": "linux/arm64", "linux/arm/v7": "linux/arm/v7"} {
		if p, err := parsePlatform(in); err != nil || platformString(p) != want {
			t.Errorf("%s: %v %v", in, p, err)
		}
	}
	for _, in := range []string{"linux/", "/", "a/b/c/d", "windows/amd64"} {
		if _, err := parsePlatform(in); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"`+zeroDigest+`"},"layers":[]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`), ocispec.MediaTypeImageIndex)
	f.Fuzz(func(t *testing.T, data []byte, mt string) {
		doc, err := parseManifest(data, mt)
		if err == nil && !doc.isIndex && checkDigest(doc.Config.Digest) != nil {
			t.Fatal("a bad digest passed")
		}
		if err == nil && doc.isIndex && len(doc.Layers) > 0 {
			t.Fatal("an index with layers passed")
		}
		_, _ = parseSpec(data)
		_ = fmt.Sprint(doc)
	})
}
