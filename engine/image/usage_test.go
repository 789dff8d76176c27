// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/rand"
	"io"
	"testing"
)

// What Usage says is what du says, but for the directories and small documents.
func TestUsageIsWhatDuSays(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	body, err := io.ReadAll(io.LimitReader(rand.Reader, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, dockerArchive(t, "web:v1", tarOf(t, entry{name: "big", body: string(body)}), baseLayers(t)[0]))
	load(t, s, dockerArchive(t, "web:v2", tarOf(t, entry{name: "big", body: string(body)}), tarOf(t, entry{name: "other", body: "x"}))) // shares the first
	u, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	du, _, err := diskUsage(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if sum := u.LayerBytes + u.BlobBytes; sum < 16<<20 || du < sum || du-sum > 256<<10 {
		t.Errorf("usage %d, du %d", sum, du)
	}
}
