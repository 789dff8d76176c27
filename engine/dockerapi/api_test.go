// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	dcontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

func TestStreams(t *testing.T) {
	d := startDaemon(t)

	t.Run("attach carries both directions and the half-close", func(t *testing.T) {
		id := d.create(dcontainer.Config{Cmd: []string{"copy"}, OpenStdin: true, StdinOnce: true}, nil)
		conn, err := d.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		wait := d.ContainerWait(t.Context(), id, client.ContainerWaitOptions{Condition: dcontainer.WaitConditionNextExit})
		d.start(id)
		big := strings.Repeat("0123456789abcdef", 1<<16) // a MiB: more than any pipe holds
		go func() {
			io.WriteString(conn.Conn, big)
			conn.CloseWrite()
		}()
		var out, errOut bytes.Buffer
		if _, err := stdcopy.StdCopy(&out, &errOut, conn.Reader); err != nil {
			t.Fatal(err)
		}
		if out.String() != big || errOut.Len() != 0 {
			t.Errorf("got %d bytes and %q, want %d and nothing", out.Len(), errOut.String(), len(big))
		}
		if r := <-wait.Result; r.StatusCode != 0 || r.Error != nil {
			t.Errorf("exit: %+v", r)
		}
	})

	t.Run("attach without input outlasts the half-close", func(t *testing.T) {
		id := d.create(dcontainer.Config{Cmd: []string{"lines", "3", "100"}}, nil)
		conn, err := d.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.CloseWrite()
		d.start(id)
		var out bytes.Buffer
		if _, err := stdcopy.StdCopy(&out, io.Discard, conn.Reader); err != nil || out.String() != "line 0\nline 1\nline 2\n" {
			t.Errorf("got %q, %v", out.String(), err)
		}
	})

	t.Run("exec tells its exit code and keeps stderr apart", func(t *testing.T) {
		id := d.create(dcontainer.Config{Cmd: []string{"wait"}}, nil)
		d.start(id)
		for _, c := range []struct {
			cmd       []string
			code      int
			out, errs string
		}{
			{[]string{"/payload", "echo", "hi"}, 0, "hi\n", ""},
			{[]string{"/payload", "err", "oh"}, 0, "", "oh\n"},
			{[]string{"/payload", "exit", "7"}, 7, "", ""},
			{[]string{"/missing"}, 127, "", "/missing"},
		} {
			x, err := d.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: c.cmd, AttachStdout: true, AttachStderr: true})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := d.ExecAttach(t.Context(), x.ID, client.ExecAttachOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var out, errOut bytes.Buffer
			stdcopy.StdCopy(&out, &errOut, conn.Reader)
			conn.Close()
			st, err := d.ExecInspect(t.Context(), x.ID, client.ExecInspectOptions{})
			if err != nil || st.Running || st.ExitCode != c.code || out.String() != c.out || !strings.Contains(errOut.String(), c.errs) {
				t.Errorf("%q: code %d, %q, %q, %v", c.cmd, st.ExitCode, out.String(), errOut.String(), err)
			}
		}
	})

	t.Run("logs follow to the end", func(t *testing.T) {
		id := d.create(dcontainer.Config{Cmd: []string{"lines", "5", "50"}}, nil)
		d.start(id)
		r, err := d.ContainerLogs(t.Context(), id, client.ContainerLogsOptions{ShowStdout: true, Follow: true, Tail: "all"})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var out bytes.Buffer
		if _, err := stdcopy.StdCopy(&out, io.Discard, r); err != nil || strings.Count(out.String(), "line") != 5 {
			t.Errorf("got %q, %v", out.String(), err)
		}
		last, err := d.ContainerLogs(t.Context(), id, client.ContainerLogsOptions{ShowStdout: true, Tail: "1", Timestamps: true})
		if err != nil {
			t.Fatal(err)
		}
		defer last.Close()
		out.Reset()
		stdcopy.StdCopy(&out, io.Discard, last)
		stamp, text, _ := strings.Cut(out.String(), " ")
		if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != "line 4\n" {
			t.Errorf("last line %q: %v", out.String(), err)
		}
	})

	t.Run("detach keys leave a terminal", func(t *testing.T) {
		id := d.create(dcontainer.Config{Cmd: []string{"wait"}, Tty: true, OpenStdin: true}, nil)
		d.start(id)
		conn, err := d.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, DetachKeys: "ctrl-a,x"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn.Conn, "\x01x")
		if _, err := io.Copy(io.Discard, conn.Reader); err != nil {
			t.Error(err)
		}
		got, err := d.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
		if err != nil || !got.Container.State.Running {
			t.Errorf("detaching ended the container: %+v, %v", got.Container.State, err)
		}
	})

	// Row 34: clients that vanish while the container is silent leave nothing behind, whether they had closed their
	// sending side before, wanted input, or had just been asked to wait for a start.
	t.Run("clients that vanish leave no goroutines", func(t *testing.T) {
		silent := d.create(dcontainer.Config{Cmd: []string{"sleep", "3600000"}, OpenStdin: true}, nil)
		d.start(silent)
		waiting := d.create(dcontainer.Config{Cmd: []string{"wait"}}, nil)
		settle := func(limit int) (goroutines, files int) {
			for deadline := time.Now().Add(10 * time.Second); ; <-time.After(20 * time.Millisecond) {
				goroutines, files = runtime.NumGoroutine(), openFiles(t)
				if goroutines <= limit || time.Now().After(deadline) {
					return goroutines, files
				}
			}
		}
		before, filesBefore := runtime.NumGoroutine(), openFiles(t)
		for i := range 300 {
			var path, body string
			switch i % 4 {
			case 0:
				path = "/containers/" + silent + "/attach?stream=1&stdout=1&stderr=1"
			case 1:
				path = "/containers/" + silent + "/attach?stream=1&stdin=1&stdout=1"
			case 2:
				path = "/containers/" + waiting + "/attach?stream=1&stdout=1"
			case 3:
				x, err := d.ExecCreate(t.Context(), silent, client.ExecCreateOptions{Cmd: []string{"/payload", "sleep", "500"}, AttachStdout: true})
				if err != nil {
					t.Fatal(err)
				}
				path, body = "/exec/"+x.ID+"/start", `{"Detach":false}`
			}
			d.vanish(path, body, i%8 < 4)
		}
		d.Client.Close()
		if after, files := settle(before); after > before+5 || files > filesBefore+5 {
			buf := make([]byte, 1<<20)
			t.Errorf("goroutines: %d before, %d after; files: %d before, %d after\n%s", before, after, filesBefore, files, buf[:min(6000, runtime.Stack(buf, true))])
		}
	})
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// vanish asks for a hijacked stream, waits for its greeting and goes away.
func (d *daemon) vanish(path, body string, halfFirst bool) {
	d.t.Helper()
	conn, err := net.Dial("unix", d.sock)
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: "+
		itoa(len(body))+"\r\n\r\n"+body)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 101" {
		d.t.Fatalf("%s: %q, %v", path, head, err)
	}
	if halfFirst {
		conn.(*net.UnixConn).CloseWrite()
	}
}
