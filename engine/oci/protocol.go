// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Parent and init talk over one stream socket, a JSON value per message.
//
//	parent                         init
//	  │ initConfig ─────────────────▶│ joins, does the steps up to OpHooks
//	  │◀──────────────────── "hooks" │ (only if the spec has prestart or createRuntime hooks)
//	  │ runs them; "go" ────────────▶│ createContainer hooks, the other steps, user, lookup of the program
//	  │◀──────────────────── "ready" │ waits at the gate               (create; exec goes on at once)
//	  │ limits, state.json           │
//	  │                              │◀── start connects to the gate; init closes it by executing the program
//
// At any point init may say "error" and end. An end of file after "ready" on exec means that the program runs.

// initConfig is everything init is told. It is the only thing init believes.
type initConfig struct {
	Steps     []Step         `json:"steps,omitempty"`
	Process   *specs.Process `json:"process"`
	Caps      capSets        `json:"caps"`
	Standing  *standing      `json:"standing,omitempty"`
	Seccomp   *filter        `json:"seccomp,omitempty"`
	NewCgroup bool           `json:"newCgroup,omitempty"` // unshare the cgroup namespace, now that init is in its group
	Gate      bool           `json:"gate,omitempty"`
	Console   bool           `json:"console,omitempty"`
	JoinMount bool           `json:"joinMount,omitempty"` // the mount namespace to join comes as a descriptor
	Chroot    bool           `json:"chroot,omitempty"`    // after joining it, go to the root that comes as a descriptor too
	MountNS   int            `json:"mountNS,omitempty"`   // the mount namespace to do the steps in: which of the parent's descriptors, from 1
	LimitsSet bool           `json:"limitsSet,omitempty"` // by the parent
	Preserve  int            `json:"preserve,omitempty"`
	Hooks     *specs.Hooks   `json:"hooks,omitempty"` // those init runs
	HostHooks bool           `json:"hostHooks,omitempty"`
	State     specs.State    `json:"state"`
	ListenPid bool           `json:"listenPid,omitempty"` // socket activation: LISTEN_PID is the program's own pid
}

const (
	sayHooks = "hooks"
	sayGo    = "go"
	sayReady = "ready"
	sayError = "error"
)

// message is every answer, in both directions.
type message struct {
	Say      string   `json:"say"`
	Error    string   `json:"error,omitempty"`
	Kind     int      `json:"kind,omitempty"` // index in errs.All, from 1
	Warnings []string `json:"warnings,omitempty"`
}

func errorMessage(err error) message {
	m := message{Say: sayError, Error: err.Error()}
	for i, k := range errs.All {
		if errors.Is(err, k) {
			m.Kind = i + 1
		}
	}
	return m
}

// err is the error that the other side met.
func (m message) err() error {
	if m.Kind > 0 && m.Kind <= len(errs.All) {
		return errs.New(errs.All[m.Kind-1], "%s", m.Error)
	}
	return errors.New(m.Error)
}

// wire is one end of the socket.
type wire struct {
	f   *os.File
	dec *json.Decoder
	enc *json.Encoder
}

func newWire(f *os.File) *wire { return &wire{f: f, dec: json.NewDecoder(f), enc: json.NewEncoder(f)} }
