// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// OOM is one time that the kernel found the group, or one below it, out of memory.
type OOM struct {
	Kills uint64 // processes of the group killed so far; it stays when the group's OOM killer is off and the process waits instead
	Pid   int    // of the process killed, as the first pid namespace counts; 0 when it is not known
	Name  string // its name (comm), at most 15 bytes; empty when it is not known
}

// OOMWatch waits for memory running out. It is for one goroutine.
type OOMWatch struct {
	group *Cgroup
	event *os.File // v1: an eventfd; v2: an inotify instance
	log   *os.File // the kernel's log from the time of the watch on; nil where it may not be read
	kills uint64   // told so far
}

// logPatience is how long the kernel's log is waited for: on v1 the event comes before the kill, and the kill before its line.
const logPatience = time.Second

// WatchOOM begins to watch. The descriptors it holds are Close's to give back.
func (c *Cgroup) WatchOOM() (*OOMWatch, error) {
	w := &OOMWatch{group: c, kills: c.OOMKills()}
	var err error
	if c.v1("memory") {
		w.event, err = c.oomEventfd()
	} else {
		w.event, err = c.oomInotify()
	}
	if err != nil {
		return nil, fmt.Errorf("watch memory of cgroup %s: %w", c.path, err)
	}
	if fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		if _, err := unix.Seek(fd, 0, unix.SEEK_END); err == nil {
			w.log = os.NewFile(uintptr(fd), "/dev/kmsg")
		} else {
			unix.Close(fd)
		}
	}
	return w, nil
}

// oomEventfd asks v1 for a tick whenever the group runs out (cgroup-v1/memory.rst, "OOM Control").
func (c *Cgroup) oomEventfd() (*os.File, error) {
	dir := c.layout.V1["memory"] + c.path
	control, err := os.Open(dir + "/memory.oom_control")
	if err != nil {
		return nil, err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if err := write(dir+"/cgroup.event_control", fmt.Sprintf("%d %d", fd, control.Fd())); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "oom"), nil
}

// oomInotify asks v2, whose event files tell of their changes as any file does.
func (c *Cgroup) oomInotify() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, c.unified("memory.events"), unix.IN_MODIFY); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "watch", Path: c.unified("memory.events"), Err: err}
	}
	return os.NewFile(uintptr(fd), "oom"), nil
}

// Close ends the watch; a Next that waits then returns os.ErrClosed.
func (w *OOMWatch) Close() error {
	if w.log != nil {
		_ = w.log.Close()
	}
	return w.event.Close()
}

// Next waits until the group runs out of memory once more. Several kills that come at once are told one by one. The end of the
// group is an error.
func (w *OOMWatch) Next() (OOM, error) {
	buf := make([]byte, 4096)
	for {
		if w.group.OOMKills() <= w.kills {
			if _, err := w.event.Read(buf); err != nil {
				return OOM{}, err
			}
			if !w.group.Exists() {
				return OOM{}, os.ErrClosed // v1 also ticks when the group is removed
			}
			if !w.group.v1("memory") && w.group.OOMKills() <= w.kills {
				continue // v2 tells of every limit that was met, and of a kill only when it is done
			}
		}
		if o, ok := w.killed(w.group.names()); ok {
			return o, nil
		}
	}
}

// killed reads the kernel's log up to the next kill in this group, and no longer than it may take to come.
func (w *OOMWatch) killed(names map[int]string) (OOM, bool) {
	deadline := time.Now().Add(logPatience)
	for w.log != nil && w.log.SetReadDeadline(deadline) == nil {
		line := make([]byte, 8192)
		n, err := w.log.Read(line)
		if errors.Is(err, unix.EPIPE) { // lines were lost; the next read goes on behind
			continue
		}
		if err != nil {
			break
		}
		if o, ok := parseKill(string(line[:n]), w.group.path, names); ok {
			w.kills++
			o.Kills = max(w.group.OOMKills(), w.kills)
			return o, true
		}
	}
	kills := w.group.OOMKills()
	if kills == w.kills && !w.group.waitsForMemory() {
		return OOM{}, false
	}
	w.kills = kills
	return OOM{Kills: kills}, true
}

// waitsForMemory says whether processes stand still because the group's OOM killer is off (v1).
func (c *Cgroup) waitsForMemory() bool {
	return c.v1("memory") && c.table("memory", "memory.oom_control")["under_oom"] == 1
}

// names are the processes that may be killed now. The kernel logs the line with the group's path only so often, the other always.
func (c *Cgroup) names() map[int]string {
	names := map[int]string{}
	pids, err := c.Procs()
	if err != nil {
		return names
	}
	for _, pid := range pids {
		if comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm"); err == nil {
			names[pid] = strings.TrimSpace(string(comm))
		}
	}
	return names
}

// parseKill understands the two lines of mm/oom_kill.c that name a process; as /dev/kmsg gives them, with a head up to the first ';':
//
//	oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/a,task_memcg=/a/b,task=NAME,pid=1,uid=0
//	Memory cgroup out of memory: Killed process 1 (NAME) total-vm:…
//
// The first is told to be ours by the path, the second by the pid. A name may hold anything, so what follows it is searched from the end.
// Both are written for one kill; only the second counts, and it is always the later one.
func parseKill(line, group string, names map[int]string) (OOM, bool) {
	_, text, ok := strings.Cut(line, ";")
	if !ok {
		return OOM{}, false
	}
	text, _, _ = strings.Cut(text, "\n")
	if rest, ok := strings.CutPrefix(text, "oom-kill:constraint=CONSTRAINT_MEMCG,"); ok {
		_, rest, ok = strings.Cut(rest, ",task_memcg=")
		path, rest, found := strings.Cut(rest, ",task=")
		at := strings.LastIndex(rest, ",pid=")
		if !ok || !found || at < 0 || path != group && !strings.HasPrefix(path, group+"/") {
			return OOM{}, false
		}
		number, _, _ := strings.Cut(rest[at+len(",pid="):], ",")
		if pid, err := strconv.Atoi(number); err == nil && pid > 0 {
			names[pid] = rest[:at] // its second line follows
		}
		return OOM{}, false
	}
	rest, ok := strings.CutPrefix(text, "Memory cgroup out of memory: Killed process ")
	number, rest, found := strings.Cut(rest, " (")
	pid, err := strconv.Atoi(number)
	if !ok || !found || err != nil {
		return OOM{}, false
	}
	if _, ours := names[pid]; !ours {
		return OOM{}, false
	}
	name := names[pid]
	if at := strings.LastIndex(rest, ") total-vm:"); at >= 0 {
		name = rest[:at]
	}
	return OOM{Pid: pid, Name: filepath.Base("/" + strings.TrimSpace(name))}, true
}
