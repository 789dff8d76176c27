// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/internal/errs"
)

// ReopenLog makes a running container write to its log's path anew, for a caller that moved the file away.
func (e *Engine) ReopenLog(ctx context.Context, ref string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	client := c.live()
	if client == nil {
		return errs.New(errs.Conflict, "container %s is not running", c.id)
	}
	return client.ReopenLog(ctx)
}

// ProcessUser answers who PID 1 of a running container was started as; nil when it does not run.
func (e *Engine) ProcessUser(ref string) (*specs.User, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(c.run, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, fmt.Errorf("read the bundle of container %s: %w", c.id, err)
	}
	return &spec.Process.User, nil
}
