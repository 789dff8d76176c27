// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseResolvConf(t *testing.T) {
	got, err := parseResolvConf(strings.NewReader("# c\nsearch a b\nnameserver 192.0.2.1\n nameserver\tfd00::1 \nnameserver bad\nnameserver 127.0.0.1\nnameserver 192.0.2.9\n"))
	if err != nil || fmt.Sprint(got) != "[192.0.2.1:53 [fd00::1]:53 127.0.0.1:53]" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestResolvConfIsReadAgainWhenItChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	u := New(Config{ResolvConf: file, Own: []netip.AddrPort{netip.MustParseAddrPort("10.43.0.10:53")}}, slog.New(slog.DiscardHandler))
	for i, content := range []string{"nameserver 192.0.2.1\n", "nameserver 192.0.2.2\nnameserver 10.43.0.10\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Now(), time.Unix(int64(1000+i), 0)); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(u.alive()); got != fmt.Sprintf("[192.0.2.%d:53]", i+1) {
			t.Errorf("servers %s", got)
		}
	}
}
