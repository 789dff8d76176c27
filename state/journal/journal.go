// SPDX-License-Identifier: Apache-2.0

// Package journal remembers who wrote which revision of an object and when: what the store itself does not keep.
//
// It is a convenience, not a record for auditors: entries are written after the store has acknowledged the write and are
// not synced, so a crash may lose the last ones, and several API servers on one etcd each know only their own. Readers
// must do without an entry. Nothing is decided from it.
//
// Files: <dir>/writes-<unix nanoseconds>.jsonl, each up to fileSize, at most maxFiles, oldest first by name; one JSON
// object a line (docs/formats/store.md). No goroutines; methods may be called concurrently.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Entry is one write.
type Entry struct {
	Revision int64     `json:"r"`
	Time     time.Time `json:"t"`
	User     string    `json:"u"`
	Manager  string    `json:"m,omitempty"`
	Key      string    `json:"k"`
}

// Bounds of what is kept: 64 MiB in all, some 400,000 writes.
const (
	fileSize = 4 << 20
	maxFiles = 16
	maxLine  = 64 << 10
)

// Journal is one folder of entries. Make it with Open.
type Journal struct {
	dir  string
	keep time.Duration

	mu   sync.Mutex // guards what follows
	file *os.File   // nil until the first entry, and when the last one is full
	size int64
}

// Open makes the folder. Files older than keep are removed as new ones begin.
func Open(dir string, keep time.Duration) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the journal of writes: %w", err)
	}
	return &Journal{dir: dir, keep: keep}, nil
}

// Close ends the file that is written to.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// Note adds an entry.
func (j *Journal) Note(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("note a write: %w", err)
	}
	line = append(line, '\n')
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file != nil && j.size+int64(len(line)) > fileSize {
		_ = j.file.Close() // its lines are written; there is nothing to do about an error
		j.file = nil
	}
	if j.file == nil {
		if err := j.begin(e.Time); err != nil {
			return fmt.Errorf("note a write: %w", err)
		}
	}
	n, err := j.file.Write(line)
	j.size += int64(n)
	if err != nil {
		return fmt.Errorf("note a write: %w", err)
	}
	return nil
}

// begin opens the next file and removes what is too old or too much. A file that a crash left with half a line stays so.
func (j *Journal) begin(now time.Time) error {
	names, err := j.files()
	if err != nil {
		return err
	}
	for i, name := range names {
		st, err := os.Stat(name)
		if err == nil && (i <= len(names)-maxFiles || now.Sub(st.ModTime()) > j.keep) {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	name := filepath.Join(j.dir, fmt.Sprintf("writes-%020d.jsonl", now.UnixNano()))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.file, j.size = f, st.Size()
	return nil
}

func (j *Journal) files() ([]string, error) {
	names, err := filepath.Glob(filepath.Join(j.dir, "writes-*.jsonl"))
	slices.Sort(names)
	return names, err
}

// Of finds the entries of one key, by revision.
func (j *Journal) Of(key string) (map[int64]Entry, error) {
	names, err := j.files()
	if err != nil {
		return nil, fmt.Errorf("read the journal of writes: %w", err)
	}
	quoted, err := json.Marshal(key)
	if err != nil {
		return nil, fmt.Errorf("read the journal of writes: %w", err)
	}
	sought := append([]byte(`"k":`), quoted...)
	found := map[int64]Entry{}
	for _, name := range names {
		if err := search(name, sought, key, found); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the journal of writes: %w", err)
		}
	}
	return found, nil
}

func search(name string, sought []byte, key string, found map[int64]Entry) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), sought) {
			continue
		}
		var e Entry
		// A line that a crash cut short says nothing.
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Key == key {
			found[e.Revision] = e
		}
	}
	return lines.Err()
}
