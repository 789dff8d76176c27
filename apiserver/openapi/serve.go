// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ServeHTTP answers below /openapi/.
func (d *Docs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "OpenAPI documents can only be read", http.StatusMethodNotAllowed)
	case r.URL.Path == "/openapi/v2":
		d.serveV2(w, r)
	case r.URL.Path == "/openapi/v3", strings.HasPrefix(r.URL.Path, "/openapi/v3/"):
		d.serveV3(w, r)
	default:
		http.NotFound(w, r)
	}
}

// serveV2 answers /openapi/v2, as JSON or, where asked for, as protobuf.
func (d *Docs) serveV2(w http.ResponseWriter, r *http.Request) {
	protobuf, ok := negotiate(r, "spec.v2")
	if !ok {
		http.Error(w, "the OpenAPI document is served as application/json and as application/com.github.proto-openapi.spec.v2@v1.0+protobuf", http.StatusNotAcceptable)
		return
	}
	doc, err := d.v2(protobuf)
	contentType := "application/json"
	if protobuf {
		contentType = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	}
	d.answer(w, r, doc, err, contentType)
}

// serveV3 answers /openapi/v3, the list of documents, and /openapi/v3/apis/apps/v1, one of them. The list names each with
// the hash of its content, so that clients may keep a document for as long as its address stays the same.
func (d *Docs) serveV3(w http.ResponseWriter, r *http.Request) {
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/openapi/v3"), "/")
	protobuf, ok := negotiate(r, "spec.v3")
	switch {
	case name == "":
		doc, err := d.index()
		d.answer(w, r, doc, err, "application/json")
		return
	case !ok:
		http.Error(w, "the OpenAPI document is served as application/json and as application/com.github.proto-openapi.spec.v3@v1.0+protobuf", http.StatusNotAcceptable)
		return
	}
	for _, gv := range d.groupVersions() {
		if path(gv) != name {
			continue
		}
		plain, err := d.v3(gv, false)
		if err == nil && !d.current(w, r, plain) {
			return
		}
		doc := plain
		contentType := "application/json"
		if err == nil && protobuf {
			doc, err = d.v3(gv, true)
			contentType = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
		}
		d.answer(w, r, doc, err, contentType)
		return
	}
	http.NotFound(w, r)
}

// current sees to a hash in the address: the right one lets the answer be kept for ever, another is sent to the right one.
func (d *Docs) current(w http.ResponseWriter, r *http.Request, doc *document) bool {
	switch r.URL.Query().Get("hash") {
	case "":
		w.Header().Set("Cache-Control", "no-cache, private")
		return true
	case doc.hash:
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
		return true
	}
	http.Redirect(w, r, relative(strings.Trim(strings.TrimPrefix(r.URL.Path, "/openapi/v3"), "/"), doc.hash), http.StatusMovedPermanently)
	return false
}

func relative(name, hash string) string {
	return "/openapi/v3/" + name + "?" + url.Values{"hash": {hash}}.Encode()
}

// index is the list of the version 3 documents.
func (d *Docs) index() (*document, error) {
	type item struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := map[string]item{}
	for _, gv := range d.groupVersions() {
		doc, err := d.v3(gv, false)
		if err != nil {
			return nil, err
		}
		paths[path(gv)] = item{relative(path(gv), doc.hash)}
	}
	for _, f := range d.foreign {
		if f.Hash != "" {
			paths[path(f.GroupVersion)] = item{relative(path(f.GroupVersion), f.Hash)}
		}
	}
	return d.once("v3", func() ([]byte, error) { return json.Marshal(map[string]any{"paths": paths}) })
}

// negotiate reads the Accept header: whether protobuf is wanted, and whether anything we have is. JSON is what we give to
// those who do not say.
func negotiate(r *http.Request, version string) (protobuf, ok bool) {
	accept := r.Header.Get("Accept")
	if accept == "" {
		return false, true
	}
	for _, part := range strings.Split(accept, ",") {
		media, _, _ := strings.Cut(part, ";")
		switch media = strings.TrimSpace(media); {
		case media == "application/json", media == "application/*", media == "*/*":
			return false, true
		case strings.HasPrefix(media, "application/com.github.proto-openapi."+version) && strings.HasSuffix(media, "+protobuf"):
			return true, true
		}
	}
	return false, false
}

func (d *Docs) answer(w http.ResponseWriter, r *http.Request, doc *document, err error, contentType string) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	etag := `"` + doc.hash + `"`
	h.Set("Etag", etag)
	h.Set("Content-Type", contentType)
	h.Add("Vary", "Accept")
	h.Add("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		w.Write(doc.gz)
		return
	}
	plain, err := gzip.NewReader(bytes.NewReader(doc.gz))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	io.Copy(w, plain)
}
