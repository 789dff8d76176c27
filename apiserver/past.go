// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/state/client"
)

// Prefixes of the path of an object, to read its history (GET) and to undo a change (POST).
const (
	PathHistory = "/knarr/v1/history"
	PathUndo    = "/knarr/v1/undo"
)

// Restored is the header of an undo's answer that says which revision's content the object has now.
const Restored = "Knarr-Restored-Revision"

// pastEntry is one line of a history.
type pastEntry struct {
	rest.Revision
	Object json.RawMessage `json:"object,omitempty"`
}

// pastList is the answer to GET /knarr/v1/history/…: oldest first. What was before Oldest is forgotten.
type pastList struct {
	Kind       string      `json:"kind"`
	APIVersion string      `json:"apiVersion"`
	Oldest     int64       `json:"oldest"`
	Revision   int64       `json:"revision"`
	Skipped    int         `json:"skipped"` // older ones that ?limit or the answer's size left out
	Items      []pastEntry `json:"items"`
}

// Bounds of a history's answer.
const (
	pastLimit = 500
	pastBytes = 32 << 20
)

func (s *Server) servePast(w http.ResponseWriter, r *http.Request, c call) error {
	req := rest.Request{User: c.user, Version: c.v, Warn: warner(w), Request: client.Request{
		Verb: client.Get, Type: c.t, Namespace: c.namespace, Name: c.name,
	}}
	if c.t.Cluster {
		req.Namespace = ""
	}
	if c.past == PathUndo {
		return s.serveUndo(w, r, c, req)
	}
	limit, err := number(r, "limit")
	if err != nil {
		return err
	}
	if limit <= 0 || limit > pastLimit {
		limit = pastLimit
	}
	h, err := s.core.History(r.Context(), req)
	if err != nil {
		return err
	}
	out := pastList{Kind: "History", APIVersion: "knarr/v1", Oldest: h.Oldest, Revision: h.Revision, Items: []pastEntry{}}
	first, size := len(h.Revisions), 0
	for first > 0 && len(h.Revisions)-first < int(limit) && size < pastBytes {
		first--
		x := pastEntry{Revision: h.Revisions[first]}
		if x.Revision.Object != nil {
			obj, err := s.core.Readable(r.Context(), req, &x.Revision)
			if err != nil {
				x.Fault = err.Error()
			} else if x.Object, err = json.Marshal(obj); err != nil {
				return err
			}
		}
		size += len(x.Object)
		out.Items = append(out.Items, x)
	}
	out.Skipped = first
	for i, j := 0, len(out.Items)-1; i < j; i, j = i+1, j-1 {
		out.Items[i], out.Items[j] = out.Items[j], out.Items[i]
	}
	return sendJSON(w, r, out)
}

func number(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, apierrors.NewBadRequest(name + ": want a number, not " + strconv.Quote(text))
	}
	return n, nil
}

func (s *Server) serveUndo(w http.ResponseWriter, r *http.Request, c call, req rest.Request) error {
	to, err := number(r, "to")
	if err != nil {
		return err
	}
	req.FieldManager = r.URL.Query().Get("fieldManager")
	if err := dryRun(&req, r.URL.Query()["dryRun"]); err != nil {
		return err
	}
	done, err := s.core.Undo(r.Context(), req, to, func(verb client.Verb) error {
		rt := c.route
		if rt.verb = string(verb); verb == client.Create {
			rt.name = "" // as in an ordinary create: names are not known to its authorizers
		}
		if ok, reason := s.authz.Allows(r.Context(), rt.attributes(c.user, r)); !ok {
			return refused(rt.attributes(c.user, r), reason)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.Header().Set(Restored, strconv.FormatInt(done.Restored, 10))
	return s.sendAnswer(w, r, c, done.Answer)
}
