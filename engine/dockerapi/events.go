// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/events"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/network"
)

func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "type", "event", "container", "image", "label", "network", "volume", "daemon", "scope", "node", "plugin", "service", "secret", "config")
	if err != nil {
		return err
	}
	since, err := moment(r, "since")
	if err != nil {
		return err
	}
	until, err := moment(r, "until")
	if err != nil {
		return err
	}
	ctx := r.Context()
	if !until.IsZero() {
		var cancel func()
		ctx, cancel = contextUntil(ctx, until)
		defer cancel()
	}
	out := newEventWriter(w, r)
	for ev, err := range s.Containers.Events(ctx, since) {
		if err != nil || !until.IsZero() && ev.Time.After(until) {
			return nil // the stream has begun: its end is all that can be told
		}
		if wanted(ev, f) && out.write(ev) != nil {
			return nil
		}
	}
	return nil
}

// eventWriter writes events in the form a client reads.
type eventWriter struct {
	w   io.Writer
	enc *json.Encoder
	old bool // before API 1.52 some values stood in two places
	seq bool // RFC 7464: a record separator before each
}

func newEventWriter(w http.ResponseWriter, r *http.Request) eventWriter {
	e := eventWriter{old: before(r, "1.52")}
	typ := "application/json"
	if !e.old {
		accept := r.Header.Get("Accept")
		for _, t := range []string{"application/json-seq", "application/x-ndjson", "application/jsonl"} {
			if strings.Contains(accept, t) {
				typ = t
				break
			}
		}
	}
	e.seq = typ == "application/json-seq"
	w.Header().Set("Content-Type", typ)
	w.WriteHeader(http.StatusOK)
	out := newFlushing(w)
	out.rc.Flush()
	e.w, e.enc = out, json.NewEncoder(out)
	return e
}

// oldEvent is an event as clients of old find it.
type oldEvent struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func (e eventWriter) write(ev container.Event) error {
	if e.seq {
		if _, err := io.WriteString(e.w, "\x1e"); err != nil {
			return err
		}
	}
	m := events.Message{
		Type: events.Type(ev.Type), Action: events.Action(ev.Action), Scope: "local", Time: ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
		Actor: events.Actor{ID: ev.ID, Attributes: ev.Attributes},
	}
	if !e.old {
		return e.enc.Encode(m)
	}
	o := oldEvent{Message: m}
	if ev.Type == "container" || ev.Type == "image" {
		o.Status, o.ID = ev.Action, ev.ID
	}
	if ev.Type == "container" {
		o.From = ev.Attributes["image"]
	}
	return e.enc.Encode(o)
}

// wanted says whether an event passes the filters of docker events.
func wanted(ev container.Event, f filters) bool {
	if ev.Type == "sandbox" { // not of Docker's world
		return false
	}
	about := func(typ string) func(string) bool {
		return func(v string) bool {
			if ev.Type == typ {
				return v != "" && strings.HasPrefix(ev.ID, v) || ev.Attributes["name"] == strings.TrimPrefix(v, "/")
			}
			image := ev.Attributes["image"]
			return typ == "image" && ev.Type == "container" && (image == v || strings.HasPrefix(image, v+":"))
		}
	}
	return f.labels(ev.Attributes) &&
		f.any("type", func(v string) bool { return ev.Type == v }) &&
		f.any("scope", func(v string) bool { return v == "local" }) &&
		f.any("event", func(v string) bool { return ev.Action == v || strings.HasPrefix(ev.Action, v+":") }) &&
		f.any("container", about("container")) && f.any("image", about("image")) &&
		f.any("network", about("network")) && f.any("volume", about("volume")) &&
		!slices.ContainsFunc([]string{"daemon", "node", "plugin", "service", "secret", "config"}, func(name string) bool { return f[name] != nil })
}

// publishNetwork tells subscribers of something that happened to a network.
func (s *Server) publishNetwork(action string, n network.Network) {
	s.Containers.Publish(container.Event{Type: "network", Action: action, ID: n.ID, Attributes: map[string]string{"name": n.Name, "type": n.Driver}})
}

// note publishes an event of a container that comes of what a client asked, not of what the engine did.
func (s *Server) note(c container.Container, action string, pairs ...string) {
	attributes := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		attributes[pairs[i]] = pairs[i+1]
	}
	s.Containers.Note(c.ID, action, attributes)
}
