// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// tails tells log readers that something changed in a folder. There is one inotify instance for the whole engine, as the
// kernel allows a user only 128 of them, opened with the first reader.
// mu guards the fields below it. A goroutine reads the instance from the first subscribe until close.
type tails struct {
	mu      sync.Mutex
	f       *os.File // nil before the first subscribe
	fd      int
	folders map[string]*tailed
	byWatch map[int32]*tailed
	reader  sync.WaitGroup
}

// tailed is one watched folder.
type tailed struct {
	dir   string
	watch int32
	subs  map[chan struct{}]bool
}

func newTails() *tails { return &tails{folders: map[string]*tailed{}, byWatch: map[int32]*tailed{}} }

const tailEvents = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ONLYDIR

// subscribe answers a channel that has a token whenever something changed in path's folder since the last one was taken.
func (t *tails) subscribe(path string) (changed <-chan struct{}, cancel func(), err error) {
	dir := filepath.Dir(path)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.open(); err != nil {
		return nil, nil, err
	}
	w := t.folders[dir]
	if w == nil {
		wd, err := unix.InotifyAddWatch(t.fd, dir, tailEvents)
		if err != nil {
			return nil, nil, fmt.Errorf("watch %s: %w", dir, err)
		}
		w = &tailed{dir: dir, watch: int32(wd), subs: map[chan struct{}]bool{}}
		t.folders[dir], t.byWatch[w.watch] = w, w
	}
	ch := make(chan struct{}, 1)
	w.subs[ch] = true
	return ch, func() { t.unsubscribe(w, ch) }, nil
}

func (t *tails) unsubscribe(w *tailed, ch chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(w.subs, ch)
	if len(w.subs) > 0 || t.byWatch[w.watch] != w {
		return
	}
	delete(t.byWatch, w.watch)
	delete(t.folders, w.dir)
	_, _ = unix.InotifyRmWatch(t.fd, uint32(w.watch)) // the folder may be gone, and the watch with it
}

// open makes the instance; mu is held.
func (t *tails) open() error {
	if t.f != nil {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	t.fd, t.f = fd, os.NewFile(uintptr(fd), "inotify")
	t.reader.Go(func() { t.read(t.f) })
	return nil
}

func (t *tails) read(f *os.File) {
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, os.ErrClosed) || err != nil {
			return
		}
		t.dispatch(buf[:n])
	}
}

// dispatch walks the struct inotify_events in b.
func (t *tails) dispatch(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		next := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		b = b[min(next, len(b)):]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, w := range t.byWatch {
				w.wake()
			}
			continue
		}
		w := t.byWatch[wd]
		if w == nil {
			continue
		}
		w.wake()
		if mask&unix.IN_IGNORED != 0 { // the folder went away
			delete(t.byWatch, wd)
			delete(t.folders, w.dir)
		}
	}
}

func (w *tailed) wake() {
	for ch := range w.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (t *tails) close() {
	t.mu.Lock()
	f := t.f
	t.mu.Unlock()
	if f != nil {
		f.Close()
		t.reader.Wait()
	}
}
