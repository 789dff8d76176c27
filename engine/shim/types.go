// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"io"
	"time"

	"github.com/knarr/knarr/engine/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Launch says how to start a monitor for one container.
type Launch struct {
	Binary   string // path of knarr-shim
	ID       string // the container's id; a file name: [a-zA-Z0-9][a-zA-Z0-9_.+-]*
	Dir      string // run directory of this container, 0700, made by the caller
	Bundle   string // OCI bundle with config.json; the rootfs in it is mounted already
	Log      Log    // where the container's output is kept
	Terminal bool   // the container's standard streams are one pseudo-terminal; process.terminal must say so too
	Stdin    bool   // keep stdin open for Attach; otherwise it reads end of file

	Filter *oci.Filter `json:",omitempty"` // see Started.Filter

	args []string // for tests, whose binary is not knarr-shim: what leads to Monitor
	env  []string
}

// Log is a container's log file in the format of the Kubernetes CRI: "<RFC3339Nano> stdout|stderr P|F <line>". With a
// terminal everything is stdout. The monitor rotates: path is always the newest, path.1 the one before, and so on.
type Log struct {
	Path     string // empty: no log
	MaxBytes int64  // rotate when a file grows past this; 0: never
	MaxFiles int    // files kept in all, the newest included; 0 means 1
}

// Exit says how a process ended. It is also the content of exit.json.
type Exit struct {
	Code      int       `json:"code"`   // the exit status; 128 + Signal when a signal killed it
	Signal    int       `json:"signal"` // 0 when it exited by itself
	OOMKilled bool      `json:"oomKilled"`
	OOM       *OOM      `json:"oom,omitempty"` // the last one, if there was any
	StartedAt time.Time `json:"startedAt"`     // zero when it was never started
	ExitedAt  time.Time `json:"exitedAt"`
}

// OOM is one time that the kernel found the container out of memory.
type OOM struct {
	Seq  int       `json:"seq"` // 1 for the first of this run
	Pid  int       `json:"pid,omitempty"`
	Name string    `json:"name,omitempty"` // of the process that was killed (comm, at most 15 bytes); empty when it is not known
	At   time.Time `json:"at"`
}

// AttachOptions chooses the streams. With a terminal only Stdin and Stdout exist.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	StdinOnce             bool // the end of this Stdin is the end of the container's: it gets end of file
}

// Streams are live ends of a process's standard streams; those not asked for are nil. Closing Stdin of the container's
// own process closes it for the container only with AttachOptions.StdinOnce or by CloseStdin: another attached client may
// still be typing.
type Streams struct {
	Stdin          io.WriteCloser
	Stdout, Stderr io.ReadCloser // io.EOF when the process and all who share the stream have closed it
	conn           *conn         // open while attached
}

// Close closes every stream that is there.
func (s *Streams) Close() error {
	var err error
	if s.conn != nil {
		err = s.conn.Close()
	}
	for _, c := range []io.Closer{s.Stdin, s.Stdout, s.Stderr} {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// Exec is one more process for a running container. Process.Terminal decides about a pseudo-terminal.
type Exec struct {
	ID      string // unique within the container while it runs
	Process specs.Process
	Stdin   bool // without it stdin reads end of file
	Null    bool // no streams at all: what it writes goes nowhere; not with a terminal
}

// KnownExec is an Exec that a monitor runs, or that has ended while nobody waited for it.
type KnownExec struct {
	ID       string   `json:"id"`
	Pid      int      `json:"pid"`
	Args     []string `json:"args"`
	Cwd      string   `json:"cwd,omitempty"`
	Terminal bool     `json:"terminal,omitempty"`
}
