// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/apiserver/rest"
)

// gzipAbove is the size from which compressing an answer saves more time than it costs.
const gzipAbove = 128 << 10

// send writes an answer made of parts.
func send(w http.ResponseWriter, r *http.Request, code int, m media, parts ...[]byte) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	h := w.Header()
	if m.pretty {
		var b bytes.Buffer
		if json.Indent(&b, bytes.Join(parts, nil), "", "  ") == nil {
			parts, size = [][]byte{b.Bytes()}, b.Len()
		}
	}
	h.Set("Content-Type", m.contentType(false))
	h.Set("Cache-Control", "no-cache, private")
	if size > gzipAbove && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		sendGzip(w, code, parts)
		return
	}
	h.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(code)
	if r.Method == http.MethodHead {
		return
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return // the client went away; there is nobody to tell
		}
	}
}

func sendGzip(w http.ResponseWriter, code int, parts [][]byte) {
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Add("Vary", "Accept-Encoding")
	w.WriteHeader(code)
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	for _, p := range parts {
		if _, err := z.Write(p); err != nil {
			return
		}
	}
	// An error here is the client gone away, as above.
	_ = z.Close()
}

// sendObject writes an object that is no cached kind.
func sendObject(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object) error {
	m, err := acceptable(r)
	if err != nil {
		return err
	}
	if _, isStatus := obj.(*metav1.Status); m.as != "" && !isStatus {
		// A review has no name and no row: there is nothing a table could show, and no metadata to show alone.
		return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, r.Method, schema.GroupResource{}, "",
			"only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf", 0, true)
	}
	if p, ok := obj.(protoMarshaler); m.format == rest.Protobuf && (!ok || p == nil) {
		m.format = rest.JSON
	}
	b, err := encodeAny(obj, m)
	if err != nil {
		return err
	}
	send(w, r, code, m, b)
	return nil
}

// sendJSON writes a plain document.
func sendJSON(w http.ResponseWriter, r *http.Request, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	send(w, r, http.StatusOK, media{format: rest.JSON, pretty: pretty(r)}, append(b, '\n'))
	return nil
}

// sendError writes err as the Status it is.
func sendError(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	m, accErr := acceptable(r)
	if accErr != nil {
		m = media{format: rest.JSON}
	}
	m.as = ""
	b, encErr := encodeAny(status, m)
	if encErr != nil {
		http.Error(w, encErr.Error(), http.StatusInternalServerError)
		return
	}
	send(w, r, int(status.Code), m, b)
}

// statusOf is the Status that a client gets for err.
func statusOf(err error) *metav1.Status {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		err = apierrors.NewRequestEntityTooLargeError("limit is " + strconv.FormatInt(tooLarge.Limit, 10))
	}
	var has apierrors.APIStatus
	if !errors.As(rest.Status(err), &has) {
		has = apierrors.NewInternalError(err)
	}
	status := has.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	return &status
}

// warner collects warnings for the client into the Warning header; it must be used before the answer begins.
func warner(w http.ResponseWriter) func(string) {
	seen := map[string]bool{}
	return func(text string) {
		if seen[text] || len(seen) >= 32 {
			return
		}
		seen[text] = true
		w.Header().Add("Warning", `299 - `+strconv.Quote(text))
	}
}
