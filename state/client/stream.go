// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

type object = runtime.Object

// maxEvent bounds one event of a watch.
const maxEvent = 16 << 20

// event is one event of a watch, its object still encoded.
type event struct {
	kind string
	raw  []byte
}

// events reads the events of a watch's answer. The end of the stream, orderly or not, is the end of the sequence: a watch
// is always asked for again.
func events(resp *http.Response) iter.Seq2[event, error] {
	next := jsonEvents(resp.Body)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), protobufType) {
		next = protobufEvents(resp.Body)
	}
	return func(yield func(event, error) bool) {
		for {
			e, err := next()
			switch {
			case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
				return
			case err != nil:
				yield(e, errs.New(errs.Unavailable, "read the watch: %w", err))
				return
			case !yield(e, nil):
				return
			}
		}
	}
}

// protobufEvents: four bytes of length, big-endian, then a WatchEvent.
func protobufEvents(body io.Reader) func() (event, error) {
	r := bufio.NewReader(body)
	return func() (event, error) {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return event{}, err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxEvent {
			return event{}, errs.New(errs.TooLarge, "an event of %d bytes", n)
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(r, frame); err != nil {
			return event{}, err
		}
		return parseEvent(frame)
	}
}

// parseEvent reads a WatchEvent, with or without the envelope.
func parseEvent(frame []byte) (event, error) {
	var u runtime.Unknown
	raw, enveloped, err := cache.OpenEnvelope(frame, &u)
	if err != nil {
		return event{}, err
	}
	if !enveloped {
		raw = frame
	}
	var w metav1.WatchEvent
	if err := w.Unmarshal(raw); err != nil {
		return event{}, err
	}
	return event{kind: w.Type, raw: w.Object.Raw}, nil
}

func jsonEvents(body io.Reader) func() (event, error) {
	dec := json.NewDecoder(body)
	return func() (event, error) {
		var w struct {
			Type   string
			Object json.RawMessage
		}
		if err := dec.Decode(&w); err != nil {
			return event{}, err
		}
		return event{kind: w.Type, raw: w.Object}, nil
	}
}

// batchOf is what an event means for the cache, and the resourceVersion it reaches. An ERROR is returned as an error.
func batchOf(t *kinds.Type, e event) (cache.Batch, string, error) {
	obj, err := decode(e.raw)
	if err != nil {
		return cache.Batch{}, "", err
	}
	if s, ok := obj.(*metav1.Status); ok {
		return cache.Batch{}, "", FromStatus(*s)
	}
	u, err := update(t, obj, watch.EventType(e.kind) == watch.Deleted)
	if err != nil {
		return cache.Batch{}, "", err
	}
	b := cache.Batch{Type: t, Revision: u.Revision}
	switch watch.EventType(e.kind) {
	case watch.Bookmark:
	case watch.Added, watch.Modified, watch.Deleted:
		b.Updates = []cache.Update{u}
	default:
		return b, "", errs.New(errs.Invalid, "an event of type %q", e.kind)
	}
	return b, strconv.FormatInt(u.Revision, 10), nil
}

// update is one object as the cache takes it.
func update(t *kinds.Type, obj object, deleted bool) (cache.Update, error) {
	o, ok := obj.(kinds.Object)
	if !ok || kinds.Of(o) != t {
		return cache.Update{}, errs.New(errs.Invalid, "a %T among the %s", obj, t.Plural)
	}
	rev, err := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return cache.Update{}, errs.New(errs.Invalid, "%s %s: resourceVersion %q is no number", t.Kind, o.GetName(), o.GetResourceVersion())
	}
	u := cache.Update{Type: t, Namespace: o.GetNamespace(), Name: o.GetName(), Revision: rev}
	if !deleted {
		u.Object = o
	}
	return u, nil
}
