// SPDX-License-Identifier: Apache-2.0

// Package naming makes the names of what controllers create. Decide knows no randomness, so a name is a hash of what makes
// it unique: who creates, when, and the how-manieth it is.
//
// It keeps no state and starts nothing.
package naming

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// alphabet has no vowels, so that no words come out, and no look-alikes; it is that of generated names in Kubernetes.
const alphabet = "bcdfghjklmnpqrstvwxz2456789"

const (
	suffixLength = 5
	maxBase      = 63 - suffixLength
)

// Generated is base with a suffix of five characters, at most 63 in all: the nth name that creator makes at that time.
func Generated(base string, creator types.UID, now time.Time, n int) string {
	h := fnv.New64a()
	h.Write([]byte(creator))
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixNano()))
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	h.Write(b[:])
	sum := h.Sum64()
	// FNV mixes its last bytes only upwards; fold, so that neighbours n look unlike each other.
	sum ^= sum >> 29
	sum *= 0xbf58476d1ce4e5b9
	sum ^= sum >> 32
	suffix := make([]byte, suffixLength)
	for i := range suffix {
		suffix[i] = alphabet[sum%uint64(len(alphabet))]
		sum /= uint64(len(alphabet))
	}
	if len(base) > maxBase {
		base = base[:maxBase]
	}
	return base + string(suffix)
}
