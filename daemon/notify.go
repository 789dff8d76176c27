// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net"
	"os"
)

// notifier tells whoever started the daemon how far it is, by the datagrams of systemd's sd_notify(3): STATUS= lines, then
// READY=1. Without NOTIFY_SOCKET it says nothing. `knarr up` listens on such a socket too.
type notifier struct{ conn net.Conn }

func newNotifier() notifier {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return notifier{}
	}
	conn, err := net.Dial("unixgram", path)
	if err != nil { // nobody listens any more: nothing to tell
		return notifier{}
	}
	return notifier{conn}
}

func (n notifier) status(format string, args ...any) {
	n.send("STATUS=" + fmt.Sprintf(format, args...))
}
func (n notifier) ready() { n.send("READY=1") }

func (n notifier) send(text string) {
	if n.conn != nil {
		n.conn.Write([]byte(text)) // a full or closed socket loses a progress line, no more
	}
}
