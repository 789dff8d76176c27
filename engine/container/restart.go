// SPDX-License-Identifier: Apache-2.0

package container

import "time"

const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = time.Minute
	stableAfter  = 10 * time.Second // a container that ran this long starts its back-off anew
)

// An ended run is what decideRestart looks at.
type ended struct {
	policy  RestartPolicy
	code    int
	ran     time.Duration
	stopped bool // somebody asked for the end
	count   int  // restarts by the policy since somebody last started it
	backoff time.Duration
}

// decideRestart says whether the policy starts the container again, and after how long.
func decideRestart(r ended) (again bool, after time.Duration) {
	switch r.policy.Name {
	case "always", "unless-stopped":
		again = !r.stopped
	case "on-failure":
		again = !r.stopped && r.code != 0 && (r.policy.MaxRetries == 0 || r.count < r.policy.MaxRetries)
	}
	if !again {
		return false, 0
	}
	if r.backoff == 0 || r.ran >= stableAfter {
		return true, firstBackoff
	}
	return true, min(2*r.backoff, maxBackoff)
}

// decideBoot says whether a container that does not run is started when the daemon starts. interrupted: it was running when
// the daemon last saw it, and it is gone with a reboot or its monitor.
func decideBoot(p RestartPolicy, s State, stopped, interrupted bool, code int) bool {
	switch p.Name {
	case "always":
		return s != Created || interrupted
	case "unless-stopped":
		return !stopped && (s != Created || interrupted)
	case "on-failure":
		return !stopped && (interrupted || s == Restarting) && code != 0
	}
	return false
}
