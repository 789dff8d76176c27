// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"iter"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/state/cache"
)

// minWatch is how long a watch lasts when the client does not say; up to twice that, so that many do not end at once.
const minWatch = 30 * time.Minute

// serveWatch streams events until the client leaves, its time is up or the server ends.
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, c encoder, namespace string, o rest.WatchOptions, seconds *int64) error {
	last := minWatch + rand.N(minWatch)
	if seconds != nil && *seconds > 0 {
		last = time.Duration(*seconds) * time.Second
	}
	ctx, done := context.WithTimeout(r.Context(), last)
	defer done()
	events, err := s.core.Watch(ctx, c.t, namespace, o)
	if err != nil {
		return err
	}
	enc := watchEncoder{encoder: c, namespace: namespace}
	if c.m.as == "Table" {
		if enc.table, err = newTabler(c, r, s.now()); err != nil {
			return err
		}
		enc.now = s.now
	}
	if c.m.format == rest.YAML {
		enc.m.format = rest.JSON
	}
	h := w.Header()
	h.Set("Content-Type", enc.m.contentType(true))
	h.Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
	s.metrics.watchers.WithLabelValues(c.t.Group, c.t.Version, c.t.Kind).Inc()
	defer s.metrics.watchers.WithLabelValues(c.t.Group, c.t.Version, c.t.Kind).Dec()
	enc.stream(w, events)
	return nil
}

// watchEncoder writes events as a client reads them: one JSON document a line, or length-prefixed protobuf messages.
type watchEncoder struct {
	encoder
	namespace string
	table     *tabler
	now       func() time.Time
	buf       bytes.Buffer
}

// stream writes events as they come. Those that are there already are sent together.
func (c *watchEncoder) stream(w http.ResponseWriter, events iter.Seq2[rest.Event, error]) {
	flush := http.NewResponseController(w)
	if flush.Flush() != nil {
		return
	}
	for ev, err := range events {
		c.buf.Reset()
		if err != nil {
			c.failure(err)
		} else if err := c.event(ev); err != nil {
			c.buf.Reset()
			c.failure(err)
		}
		if _, err := w.Write(c.buf.Bytes()); err != nil {
			return
		}
		if ev.More {
			continue
		}
		if err := flush.Flush(); err != nil {
			return
		}
	}
}

func (c *watchEncoder) failure(err error) {
	m := c.m
	m.as = ""
	if b, err := encodeAny(statusOf(err), m); err == nil {
		c.frame(string(watch.Error), bytes.TrimSpace(b))
	}
}

func (c *watchEncoder) event(ev rest.Event) error {
	e := ev.Entry
	if ev.Type == watch.Bookmark {
		e = c.bookmark(ev)
	}
	if c.table == nil {
		b, err := c.whole(e)
		if err == nil {
			c.frame(string(ev.Type), b)
		}
		return err
	}
	rows := []*cache.Entry{e}
	if ev.Type == watch.Bookmark {
		rows = nil
	}
	c.table.now = c.now()
	t, err := c.table.table(rows, metav1.ListMeta{ResourceVersion: e.Object.GetResourceVersion()})
	if err != nil {
		return err
	}
	b, err := json.Marshal(t)
	if err == nil {
		c.frame(string(ev.Type), b)
	}
	return err
}

// bookmark is an empty object that carries the revision.
func (c *watchEncoder) bookmark(ev rest.Event) *cache.Entry {
	obj := c.t.New()
	obj.SetResourceVersion(strconv.FormatInt(ev.Revision, 10))
	if ev.InitialEnd {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	obj.GetObjectKind().SetGroupVersionKind(c.t.GroupVersionKind)
	return &cache.Entry{Type: c.t, Object: obj, Revision: ev.Revision}
}

// frame appends one event around an object's bytes, which are copied, never encoded again.
func (c *watchEncoder) frame(typ string, object []byte) {
	if c.m.format != rest.Protobuf {
		c.buf.WriteString(`{"type":"` + typ + `","object":`)
		c.buf.Write(object)
		c.buf.WriteString("}\n")
		return
	}
	ev := metav1.WatchEvent{Type: typ, Object: runtime.RawExtension{Raw: object}}
	b, err := ev.Marshal()
	if err != nil {
		return // a message of two byte strings always encodes
	}
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(b)))
	c.buf.Write(size[:])
	c.buf.Write(b)
}
