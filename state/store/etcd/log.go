// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo is a zap logger that writes to log. etcd tells at Info what only its developers ask for, and warns of slow disks by
// the line, so all of it is one level quieter here, but for errors.
func zapTo(log *slog.Logger) *zap.Logger { return zap.New(&core{log: log}) }

type core struct {
	log   *slog.Logger
	attrs []any
}

func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelInfo
	case l == zapcore.InfoLevel:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

func attrs(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	out := make([]any, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		out = append(out, slog.Any(k, v))
	}
	return out
}

// Enabled is asked with a background context: zap has none.
func (c *core) Enabled(l zapcore.Level) bool { return c.log.Enabled(context.Background(), level(l)) } //house:allow context.Background: zap hands none on

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{log: c.log, attrs: append(append([]any(nil), c.attrs...), attrs(fields)...)}
}

// harmless are messages of every start on an empty folder, which look like trouble and are none: there is no term yet to
// note a schema version with (it is noted a minute later), and nobody logs in to a member that listens nowhere.
var harmless = []string{"failed to update storage version", "Failed to detect schema version", "simple token is not cryptographically signed"}

// levelOf is the level a message is told at.
func levelOf(e zapcore.Entry) slog.Level {
	if slices.Contains(harmless, e.Message) {
		return slog.LevelDebug
	}
	return level(e.Level)
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), levelOf(e), "etcd: "+e.Message, append(attrs(fields), c.attrs...)...) //house:allow context.Background: zap hands none on
	return nil
}

func (c *core) Sync() error { return nil }
