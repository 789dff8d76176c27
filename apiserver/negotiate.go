// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/kinds"
)

// media is the form in which a client wants an answer.
type media struct {
	format rest.Format
	as     string // "", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
	pretty bool
}

// acceptable reads the Accept header: the first form that is served wins, as clients list them by preference.
func acceptable(r *http.Request) (media, error) { return acceptableFor(r, nil) }

// acceptableFor is acceptable for objects of a kind: those of a kind defined at runtime have no protobuf form, but their
// metadata has.
func acceptableFor(r *http.Request, t *kinds.Type) (media, error) {
	header := r.Header.Get("Accept")
	if header == "" {
		header = "*/*"
	}
	for _, clause := range strings.Split(header, ",") {
		if m, ok := served(clause); ok {
			if t != nil && t.Custom != nil && m.format == rest.Protobuf && m.as == "" {
				continue
			}
			m.pretty = m.format == rest.JSON && pretty(r)
			return m, nil
		}
	}
	return media{}, apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "get", schema.GroupResource{}, "",
		"only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf", 0, true)
}

func served(clause string) (media, bool) {
	typ, params, err := mime.ParseMediaType(clause)
	if err != nil {
		return media{}, false
	}
	var m media
	switch typ {
	case "application/json", "*/*", "application/*":
		m.format = rest.JSON
	case "application/yaml":
		m.format = rest.YAML
	case "application/vnd.kubernetes.protobuf":
		m.format = rest.Protobuf
	default:
		return media{}, false
	}
	m.as = params["as"]
	switch m.as {
	case "":
	case "Table":
		if m.format == rest.Protobuf || params["g"] != "meta.k8s.io" || params["v"] != "v1" && params["v"] != "v1beta1" {
			return media{}, false
		}
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		if params["g"] != "meta.k8s.io" || params["v"] != "v1" {
			return media{}, false
		}
	default:
		return media{}, false
	}
	return m, true
}

// pretty: asked for, or a person with curl or a browser.
func pretty(r *http.Request) bool {
	if p, ok := r.URL.Query()["pretty"]; ok {
		return p[0] != "false" && p[0] != "0"
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// bodyFormat is how the request's body is written.
func bodyFormat(r *http.Request) (rest.Format, error) {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return rest.JSON, nil
	}
	typ, _, err := mime.ParseMediaType(header)
	if err == nil {
		switch f := rest.Format(typ); f {
		case rest.JSON, rest.YAML, rest.Protobuf:
			return f, nil
		}
	}
	return "", apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, r.Method, schema.GroupResource{}, "",
		"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf", 0, true)
}

// contentType is what an answer of form m says it is.
func (m media) contentType(stream bool) string {
	t := string(m.format)
	if stream && m.format != rest.JSON {
		t += ";stream=watch"
	}
	return t
}
