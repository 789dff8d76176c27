// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"os"
	"strings"
)

// Check compares the volumes that are known with the folders that are there, one sentence for each that does not fit. It
// changes nothing; tests and `knarr fsck` call it.
func (v *Volumes) Check() ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, removePrefix):
			out = append(out, fmt.Sprintf("the removal of volume %s is not finished", strings.TrimPrefix(name, removePrefix)))
		case e.IsDir() && !strings.HasPrefix(name, ".") && v.volumes[name] == nil:
			out = append(out, fmt.Sprintf("folder %s belongs to no volume", name))
		}
	}
	for name := range v.volumes {
		if fi, err := os.Lstat(v.path(name)); err != nil || !fi.IsDir() {
			out = append(out, fmt.Sprintf("volume %s has no folder", name))
		}
	}
	for name, users := range v.users {
		if len(users) > 0 && v.volumes[name] == nil {
			out = append(out, fmt.Sprintf("volume %s is used by %d containers and does not exist", name, len(users)))
		}
	}
	return out, nil
}
