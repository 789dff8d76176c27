// SPDX-License-Identifier: Apache-2.0

package image

import (
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// parsePlatform reads "os/arch[/variant]" or "arch"; "" is this machine's.
func parsePlatform(p string) (ocispec.Platform, error) {
	host := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if p == "" {
		return host, nil
	}
	parts := strings.Split(strings.ToLower(p), "/")
	for _, e := range parts {
		if e == "" || len(parts) > 3 {
			return host, errs.New(errs.Invalid, "invalid platform %q: want os/architecture[/variant]", p)
		}
	}
	if len(parts) == 1 {
		parts = append([]string{"linux"}, parts...)
	}
	out := ocispec.Platform{OS: parts[0], Architecture: normalArch(parts[1])}
	if len(parts) == 3 {
		out.Variant = parts[2]
	}
	if out.OS != "linux" {
		return out, errs.New(errs.Unsupported, "platform %q: only linux images can be used here", p)
	}
	return out, nil
}

// normalArch maps what uname and older tools say to Go's names, which OCI uses.
func normalArch(a string) string {
	switch a {
	case "x86_64", "x86-64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "i386":
		return "386"
	}
	return a
}

// matches says whether content for have runs where want is asked for. Variants count only if both name one.
func matches(have, want ocispec.Platform) bool {
	return have.OS == want.OS && normalArch(have.Architecture) == want.Architecture &&
		(have.Variant == "" || want.Variant == "" || have.Variant == want.Variant)
}

func platformString(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}
