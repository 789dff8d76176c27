// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "time"

// Plan is what Decide answers.
type Plan struct {
	Actions []Action      // in order; the first that fails ends the pass
	Again   time.Duration // look again then even if nothing happens; 0: no need
	Why     string
}

// Action is one of the types below.
type Action interface{ action() }

type (
	// MakeDir makes the pod's folders.
	MakeDir struct{}
	// MountVolumes sets all volumes up, or brings them up to date.
	MountVolumes struct{}
	// UnmountVolumes undoes it.
	UnmountVolumes struct{}
	// EnsureSandbox makes the sandbox SandboxID(UID, Attempt).
	EnsureSandbox struct{ Attempt int }
	// RemoveSandbox removes one.
	RemoveSandbox struct{ ID string }
	// LookForImage finds out whether the image of a container is in the store, for this attempt of the container.
	LookForImage struct {
		Kind      Kind
		Container string
		Image     string
		Attempt   int
	}
	// PullImage begins to pull in the background.
	PullImage struct {
		Kind      Kind
		Container string
		Image     string
		Attempt   int
	}
	// FailImage notes that there will be no image: policy Never.
	FailImage struct{ Container, Image, Message string }
	// StartContainer creates and starts the Attempt-th container of a name. Backoff is the delay that follows its end.
	StartContainer struct {
		Kind      Kind
		Container string
		ImageID   string
		Attempt   int
		Backoff   time.Duration
	}
	// BeginStop notes that a container is to end, and says so in an event.
	BeginStop struct {
		ID, Container string
		Grace         time.Duration
		Message       string
	}
	// PreStop begins the hook in the background.
	PreStop struct{ ID, Container string }
	// Signal sends the stop signal (0) or another one.
	Signal struct {
		ID     string
		Signal int
	}
	// RemoveContainer deletes an ended container.
	RemoveContainer struct{ ID string }
	// Event tells the user something, once for a Key.
	Event struct {
		Key, Type, Reason, Message string
		Container                  string // "": the pod
	}
	// DeleteObject removes the pod from the API; the status has been written.
	DeleteObject struct{}
	// RemoveDir removes the pod's folders, logs too.
	RemoveDir struct{}
	// Forget ends the worker.
	Forget struct{}
)

func (MakeDir) action()         {}
func (MountVolumes) action()    {}
func (UnmountVolumes) action()  {}
func (EnsureSandbox) action()   {}
func (RemoveSandbox) action()   {}
func (LookForImage) action()    {}
func (PullImage) action()       {}
func (FailImage) action()       {}
func (StartContainer) action()  {}
func (BeginStop) action()       {}
func (PreStop) action()         {}
func (Signal) action()          {}
func (RemoveContainer) action() {}
func (Event) action()           {}
func (DeleteObject) action()    {}
func (RemoveDir) action()       {}
func (Forget) action()          {}

func (p *Plan) do(a ...Action) { p.Actions = append(p.Actions, a...) }

// by asks to look again at t at the latest.
func (p *Plan) by(now, t time.Time) {
	d := max(t.Sub(now), time.Millisecond)
	if p.Again == 0 || d < p.Again {
		p.Again = d
	}
}
