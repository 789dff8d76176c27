// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// maxLogLine bounds what is kept of a log line without end. The monitor splits lines long before.
const maxLogLine = 1 << 20

// parseLogLine reads "<time> <stream> <P|F> <text>" (the Kubernetes CRI's format). line has no newline.
func parseLogLine(line []byte) (LogLine, bool) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tag, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !ok3 || string(stream) != "stdout" && string(stream) != "stderr" || len(tag) == 0 {
		return LogLine{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return LogLine{}, false
	}
	l := LogLine{Time: at, Stream: string(stream), Partial: tag[0] == 'P', Data: bytes.Clone(text)}
	if !l.Partial {
		l.Data = append(l.Data, '\n')
	}
	return l, true
}

// logReader reads a log through its rotations: path is the newest file, path.1 the one before.
type logReader struct {
	path string
	f    *os.File // nil before the file exists
	buf  []byte   // read, not yet handed out
	off  int      // of the first byte not handed out
}

func (r *logReader) close() {
	if r.f != nil {
		r.f.Close()
	}
}

// openAt opens the file that holds the tail-th line from the end, at that line; tail < 0: the oldest file there is.
func (r *logReader) openAt(tail int) error {
	for k := 0; ; k++ {
		f, err := openLog(rotated(r.path, k))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		r.close()
		r.f = f
		if tail < 0 {
			continue
		}
		found, err := seekTail(f, tail)
		if err != nil {
			return err
		}
		if tail -= found; tail <= 0 {
			return nil
		}
	}
}

// openLog opens a regular file, never anything that would block or act.
func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	return f, nil
}

func rotated(path string, k int) string {
	if k == 0 {
		return path
	}
	return path + "." + strconv.Itoa(k)
}

// seekTail puts f before its last n lines and answers how many there are, at most n.
func seekTail(f *os.File, n int) (int, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return 0, err
	}
	const block = 32 << 10
	buf := make([]byte, block)
	lines := 0
	for pos := end; pos > 0; {
		size := min(block, pos)
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return 0, err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || pos+i == end-1 { // the newline at the very end begins no line
				continue
			}
			if lines++; lines == n {
				_, err := f.Seek(pos+i+1, io.SeekStart)
				return n, err
			}
		}
	}
	if end > 0 {
		lines++
	}
	_, err = f.Seek(0, io.SeekStart)
	return lines, err
}

// next answers the next whole line without its newline; io.EOF when there is none yet. The bytes are valid until the next call.
func (r *logReader) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.off:], '\n'); i >= 0 {
			line := r.buf[r.off : r.off+i]
			r.off += i + 1
			return line, nil
		}
		if len(r.buf)-r.off > maxLogLine {
			r.off = len(r.buf)
		}
		n := copy(r.buf, r.buf[r.off:])
		r.buf, r.off = r.buf[:n], 0
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

func (r *logReader) fill() error {
	if r.f == nil {
		return io.EOF
	}
	have := len(r.buf)
	if cap(r.buf)-have < 16<<10 {
		r.buf = append(make([]byte, 0, 2*cap(r.buf)+64<<10), r.buf...)
	}
	n, err := r.f.Read(r.buf[have:cap(r.buf)])
	r.buf = r.buf[:have+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// advance goes to the file after the present one if that was rotated away, and says whether it did. The present one must have
// been read to its end after its rotation, hence the two passes of the caller.
func (r *logReader) advance() (bool, error) {
	if r.f == nil {
		f, err := openLog(r.path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		r.f = f
		return err == nil, err
	}
	mine, err := r.f.Stat()
	if err != nil {
		return false, err
	}
	var newer *os.File
	defer func() {
		if newer != nil {
			newer.Close()
		}
	}()
	for k := 0; ; k++ {
		f, err := openLog(rotated(r.path, k))
		if errors.Is(err, fs.ErrNotExist) {
			break // ours has been deleted: go on with the oldest that is left
		}
		if err != nil {
			return false, err
		}
		st, err := f.Stat()
		if err != nil || os.SameFile(st, mine) {
			f.Close()
			break
		}
		if newer != nil {
			newer.Close()
		}
		newer = f
	}
	if newer == nil {
		return false, nil
	}
	r.close()
	r.f, newer, r.buf, r.off = newer, nil, r.buf[:0], 0
	return true, nil
}
