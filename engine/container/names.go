// SPDX-License-Identifier: Apache-2.0

package container

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

var (
	nameQualities = [...]string{
		"able", "amber", "ancient", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "copper", "eager", "early",
		"fair", "fast", "fearless", "fine", "fresh", "gentle", "golden", "grand", "happy", "hardy", "keen", "kind", "lively",
		"loyal", "lucky", "mellow", "merry", "mighty", "nimble", "noble", "northern", "patient", "proud", "quick", "quiet",
		"ready", "silver", "snug", "solid", "steady", "stout", "sunny", "sure", "swift", "trim", "trusty", "warm", "wise",
	}
	nameThings = [...]string{
		"albatross", "anchor", "barge", "beacon", "bollard", "bosun", "bowsprit", "breeze", "brig", "buoy", "capstan", "clipper",
		"cog", "compass", "coral", "cormorant", "cutter", "dolphin", "dory", "ferry", "fjord", "galley", "gannet", "gull",
		"halyard", "harbour", "heron", "herring", "hull", "jetty", "keel", "ketch", "lagoon", "lantern", "longship", "mast",
		"narwhal", "oar", "orca", "osprey", "otter", "petrel", "pier", "pilot", "puffin", "rudder", "schooner", "seal", "sextant",
		"skerry", "skiff", "sloop", "tern", "tide", "tiller", "trawler", "walrus", "wharf", "yawl",
	}
)

// newID answers 64 random hexadecimal digits.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// inventName makes a pronounceable name that taken does not know.
func inventName(taken func(string) bool) string {
	name := nameQualities[randomBelow(len(nameQualities))] + "_" + nameThings[randomBelow(len(nameThings))]
	for i := 2; taken(name); i++ {
		name = fmt.Sprintf("%s%d", strings.TrimRight(name, "0123456789"), i)
	}
	return name
}

func randomBelow(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		return 0
	}
	return int(i.Int64())
}

// checkName holds Docker's rule for container names.
func checkName(name string) error {
	ok := len(name) >= 2 && len(name) <= 255
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (alnum || i > 0 && strings.ContainsRune("_.-", r))
	}
	if !ok {
		return errs.New(errs.Invalid, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

// reserve gives id the name, or says who has it. mu is held.
func (e *Engine) reserve(name, id string) error {
	if owner, taken := e.names[name]; taken && owner != id {
		return errs.New(errs.Conflict, `Conflict. The container name "/%s" is already in use by container "%s". You have to remove (or rename) that container to be able to reuse that name.`, name, owner)
	}
	e.names[name] = id
	return nil
}

// find resolves a name, an ID or a unique prefix of one.
func (e *Engine) find(ref string) (*entry, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if c := e.containers[ref]; c != nil {
		return c, nil
	}
	name := strings.TrimPrefix(ref, "/")
	if c := e.containers[e.names[name]]; c != nil {
		return c, nil
	}
	var found *entry
	for id, c := range e.containers {
		if ref != "" && strings.HasPrefix(id, ref) {
			if found != nil {
				return nil, errs.New(errs.Invalid, "Multiple IDs found with provided prefix: %s", ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, errs.New(errs.NotFound, "No such container: %s", ref)
	}
	return found, nil
}
