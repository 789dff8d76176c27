// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/knarr/knarr/state/store"
)

// The writer of TestAcknowledgedWritesSurviveKill is this test binary with these in its environment.
const (
	writerDir   = "KNARR_TEST_STORE_DIR"
	writerFirst = "KNARR_TEST_STORE_FIRST"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		if err := writeForever(dir, os.Getenv(writerFirst)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForever writes key after key and says which are acknowledged, until it is killed.
func writeForever(dir, first string) error {
	s, err := OpenEmbedded(context.Background(), Embedded{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		key := fmt.Sprintf("/registry/%s/%06d", first, i)
		if _, _, err := s.Txn(context.Background(), nil, []store.Op{{Key: key, Value: []byte(key)}}); err != nil {
			return err
		}
		fmt.Println(key)
	}
}

func TestAcknowledgedWritesSurviveKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 4 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), writerDir+"="+dir, fmt.Sprintf("%s=%d", writerFirst, round))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 300+800*round && lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
		}
		_ = cmd.Process.Kill()
		for lines.Scan() { // what it could still say
			acknowledged[lines.Text()] = true
		}
		_ = cmd.Wait()

		s := open(t, dir)
		p, err := s.Range(t.Context(), "/registry/", store.RangeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, kv := range p.KVs {
			have[kv.Key] = string(kv.Value) == kv.Key
		}
		for key := range acknowledged {
			if !have[key] {
				t.Errorf("round %d: %s was acknowledged and is lost", round, key)
			}
		}
		if len(acknowledged) < 300*(round+1) {
			t.Fatalf("round %d: only %d writes", round, len(acknowledged))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
