// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// process is what ps shows of one, from /proc/<pid>/stat and its neighbours (proc_pid_stat(5)).
type process struct {
	pid, ppid, nice, threads int
	comm, cmd, state, user   string
	uid                      int
	tty                      int
	ticks                    uint64 // CPU time in 1/100 s
	started                  time.Time
	vsz, rss                 uint64 // KiB
	cpuShare, memShare       float64
}

// column is one word of ps -o.
type column struct {
	title string
	show  func(p process) string
}

// psColumn finds a column by ps's name for it.
func psColumn(name string) (column, bool) {
	num := func(f func(p process) int) func(process) string {
		return func(p process) string { return strconv.Itoa(f(p)) }
	}
	switch name {
	case "pid":
		return column{"PID", num(func(p process) int { return p.pid })}, true
	case "ppid":
		return column{"PPID", num(func(p process) int { return p.ppid })}, true
	case "user", "euser", "uname":
		return column{"USER", func(p process) string { return p.user }}, true
	case "uid", "euid":
		return column{"UID", num(func(p process) int { return p.uid })}, true
	case "c":
		return column{"C", func(p process) string { return strconv.Itoa(int(p.cpuShare)) }}, true
	case "%cpu", "pcpu":
		return column{"%CPU", func(p process) string { return fmt.Sprintf("%.1f", p.cpuShare) }}, true
	case "%mem", "pmem":
		return column{"%MEM", func(p process) string { return fmt.Sprintf("%.1f", p.memShare) }}, true
	case "vsz", "vsize":
		return column{"VSZ", func(p process) string { return strconv.FormatUint(p.vsz, 10) }}, true
	case "rss", "rssize":
		return column{"RSS", func(p process) string { return strconv.FormatUint(p.rss, 10) }}, true
	case "tty", "tt", "tname":
		return column{"TTY", func(p process) string { return ttyName(p.tty) }}, true
	case "stat", "state", "s":
		return column{"STAT", func(p process) string { return p.state }}, true
	case "stime", "start", "start_time":
		return column{"STIME", func(p process) string { return p.started.Format("15:04") }}, true
	case "time", "cputime":
		return column{"TIME", func(p process) string { return cpuTime(p.ticks) }}, true
	case "etime":
		return column{"ELAPSED", func(p process) string { return time.Since(p.started).Truncate(time.Second).String() }}, true
	case "comm", "ucmd", "ucomm":
		return column{"COMMAND", func(p process) string { return p.comm }}, true
	case "cmd", "args", "command":
		return column{"CMD", func(p process) string { return p.cmd }}, true
	case "ni", "nice":
		return column{"NI", num(func(p process) int { return p.nice })}, true
	case "caught", "sigcatch":
		return column{"CAUGHT", func(p process) string { return p.signalNames(func(s Signals) SignalSet { return s.Caught }) }}, true
	case "ignored", "sigignore":
		return column{"IGNORED", func(p process) string { return p.signalNames(func(s Signals) SignalSet { return s.Ignored }) }}, true
	case "blocked", "sigmask", "sig_block":
		return column{"BLOCKED", func(p process) string { return p.signalNames(func(s Signals) SignalSet { return s.Blocked }) }}, true
	case "queued":
		return column{"QUEUED", func(p process) string { return p.signalNames(func(s Signals) SignalSet { return s.Queued }) }}, true
	case "nlwp", "thcount":
		return column{"NLWP", num(func(p process) int { return p.threads })}, true
	}
	return column{}, false
}

// signalNames are those of one set, where ps shows a number.
func (p process) signalNames(which func(Signals) SignalSet) string {
	s, err := readSignals(p.pid)
	if err != nil || which(s) == 0 {
		return "-"
	}
	return strings.Join(which(s).Names(), ",")
}

// psColumns reads the options: a format's name, or -o with a list.
func psColumns(args string) ([]column, error) {
	names, fullUser := []string{"user", "pid", "ppid", "c", "stime", "tty", "time", "cmd"}, true
	var listed []string
	words := strings.Fields(args)
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "-ef", w == "-f", w == "-e":
		case w == "aux", w == "-aux", w == "u":
			names, fullUser = []string{"user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "stime", "time", "command"}, false
		case strings.TrimLeft(w, "-aexo") == "" && strings.HasSuffix(w, "o") && i+1 < len(words):
			listed = append(listed, strings.Split(words[i+1], ",")...) // a later -o adds columns
			i++
		case strings.HasPrefix(w, "-o"):
			listed = append(listed, strings.Split(w[2:], ",")...)
		default:
			return nil, errs.New(errs.Invalid, "top: option %q is not known; use -ef, aux or -o with a list of columns", w)
		}
	}
	if len(listed) > 0 {
		names, fullUser = listed, false
	}
	var out []column
	for _, n := range names {
		c, ok := psColumn(strings.ToLower(strings.TrimSpace(n)))
		if !ok {
			return nil, errs.New(errs.Invalid, "top: column %q is not known", n)
		}
		if n == "user" && fullUser {
			c.title = "UID" // so says ps -f
		}
		out = append(out, c)
	}
	return out, nil
}

// Top lists the container's processes. args are ps options: "", "-ef", "aux", "-o pid,comm,…". No ps is run: not the host's,
// which may not be there, and not the container's, which may lie.
func (e *Engine) Top(ctx context.Context, ref string, args string) (titles []string, rows [][]string, err error) {
	columns, err := psColumns(args)
	if err != nil {
		return nil, nil, err
	}
	c, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	st := c.status()
	if !st.running() {
		return nil, nil, errs.New(errs.Conflict, "container %s is not running", c.id)
	}
	g, err := e.layout.Open(st.Cgroup)
	if err != nil {
		return nil, nil, err
	}
	pids, err := g.Procs()
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(pids)
	for _, col := range columns {
		titles = append(titles, col.title)
	}
	m := readMachine()
	for _, pid := range slices.Compact(pids) {
		p, err := m.process(pid)
		if err != nil {
			continue // it ended
		}
		var row []string
		for _, col := range columns {
			row = append(row, col.show(p))
		}
		rows = append(rows, row)
	}
	return titles, rows, nil
}

// machine is what processes are measured by.
type machine struct {
	now, boot time.Time
	memory    uint64 // KiB
	users     map[int]string
}

const ticksPerSecond = 100 // USER_HZ

func readMachine() machine {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // cannot fail with a valid pointer
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	now := time.Now()
	return machine{now: now, boot: now.Add(-time.Duration(up.Nano())), memory: info.Totalram * uint64(info.Unit) / 1024, users: map[int]string{}}
}

func (m machine) process(pid int) (process, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return process{}, err
	}
	p, err := parseStat(string(stat), m)
	if err != nil {
		return p, err
	}
	cmd, err := os.ReadFile(dir + "cmdline")
	if err != nil {
		return p, err
	}
	p.cmd = strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))
	if p.cmd == "" {
		p.cmd = "[" + p.comm + "]"
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return p, err
	}
	p.uid, p.user = int(st.Uid), m.userName(int(st.Uid))
	return p, nil
}

func (m machine) userName(uid int) string {
	name, known := m.users[uid]
	if !known {
		name = strconv.Itoa(uid)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		m.users[uid] = name
	}
	return name
}

// parseStat reads /proc/<pid>/stat. The name is in parentheses and may hold anything, also parentheses.
func parseStat(text string, m machine) (process, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("parse process status %.40q", text)
	}
	f := strings.Fields(text[end+1:])
	if len(f) < 22 {
		return process{}, fmt.Errorf("parse process status %.40q", text)
	}
	n := func(field int) uint64 { v, _ := strconv.ParseUint(f[field-3], 10, 64); return v } // numbered as in the manual, from 1
	nice, _ := strconv.Atoi(f[19-3])
	pid, _ := strconv.Atoi(strings.TrimSpace(text[:open]))
	p := process{pid: pid, ppid: int(n(4)), comm: text[open+1 : end], state: f[0], tty: int(n(7)), ticks: n(14) + n(15), nice: nice,
		threads: int(n(20)), vsz: n(23) / 1024, rss: n(24) * uint64(os.Getpagesize()) / 1024}
	p.started = m.boot.Add(time.Duration(n(22)) * time.Second / ticksPerSecond)
	if age := m.now.Sub(p.started).Seconds(); age > 0 {
		p.cpuShare = float64(p.ticks) / ticksPerSecond / age * 100
	}
	if m.memory > 0 {
		p.memShare = float64(p.rss) / float64(m.memory) * 100
	}
	return p, nil
}

// ttyName decodes a device number as the kernel gives it: pseudo-terminals have majors 136 to 143.
func ttyName(dev int) string {
	major, minor := unix.Major(uint64(dev)), unix.Minor(uint64(dev))
	if dev == 0 || major < 136 || major > 143 {
		return "?"
	}
	return "pts/" + strconv.Itoa(int((major-136)*256+minor))
}

func cpuTime(ticks uint64) string {
	s := ticks / ticksPerSecond
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}
