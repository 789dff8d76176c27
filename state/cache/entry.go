// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"sync"

	"github.com/knarr/knarr/kinds"
)

// Entry is one object at one revision. It is shared by all readers: nobody writes to it or to its Object.
type Entry struct {
	Type *kinds.Type
	// Object is of the hub version, with apiVersion, kind and resourceVersion (= Revision in decimal) set.
	Object         kinds.Object
	Revision       int64 // of the transaction that last wrote it
	CreateRevision int64 // of the one that created it; 0 when the source does not tell (list-watch)

	mu        sync.Mutex // guards what follows
	encoded   []encoding
	converted []*Entry // itself in other versions

	sum uint64 // of the stored form, with KNARR_VERIFY=1
}

// Converted is the entry as Convert made it for version t, or nil.
func (e *Entry) Converted(t *kinds.Type) *Entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.converted {
		if x.Type == t {
			return x
		}
	}
	return nil
}

// Convert keeps obj as e in version t, with encodings of its own.
func (e *Entry) Convert(t *kinds.Type, obj kinds.Object) *Entry {
	x := &Entry{Type: t, Object: obj, Revision: e.Revision, CreateRevision: e.CreateRevision}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.converted = append(e.converted, x)
	return x
}

// Encoding names a form of an object's bytes: a format and, beside the hub, an API version ("json",
// "json;apps/v1beta1"). Whoever encodes chooses the names; JSON and Protobuf are the hub version's.
type Encoding string

// The encodings of the hub version.
const (
	JSON     Encoding = "json"     // one line, as json.Marshal writes it
	Protobuf Encoding = "protobuf" // with the k8s\x00 envelope
)

type encoding struct {
	name  Encoding
	bytes []byte
}

// Encoded returns the bytes of e in enc; make is called at most once for an Entry and encoding, whoever asks first. An
// error is not kept. The bytes are shared: do not write to them.
func (e *Entry) Encoded(enc Encoding, make func() ([]byte, error)) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.encoded {
		if x.name == enc {
			return x.bytes, nil
		}
	}
	b, err := make()
	if err != nil {
		return nil, err
	}
	e.encoded = append(e.encoded, encoding{enc, b})
	return b, nil
}
