// SPDX-License-Identifier: Apache-2.0

// Command web is the example that Knarr's tour builds and deploys: a static web server in one file, small enough for an
// image FROM scratch.
//
// It serves /usr/share/nginx/html, so that manifests written for nginx work with it; a folder without index.html (a fresh
// volume mounted there) gets a page of its own that says who answers. /healthz always answers. Each request is one line on
// standard output. SIGTERM lets requests in flight finish.
//
// Having no shell beside it, it also brings the few commands one wants inside such a container: web help lists them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"html"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	args := os.Args[1:]
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		os.Exit(command(ctx, args[0], args[1:]))
	}
	if err := serve(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("web", flag.ExitOnError)
	port := flags.Int("port", 80, "port to listen on; 0 takes a free one")
	root := flags.String("root", "/usr/share/nginx/html", "folder to serve")
	flags.Parse(args)

	listener, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(*port)))
	if err != nil {
		return err
	}
	logger := log.New(os.Stdout, "", log.LstdFlags|log.LUTC)
	logger.Printf("serving %s on %s", *root, listener.Addr())
	server := &http.Server{Handler: logged(logger, pages(*root)), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	logger.Print("stopping: finishing the requests in flight")
	last, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return server.Shutdown(last)
}

// pages answers with the files below root. os.Root keeps symbolic links from leading out of it.
func pages(root string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		host, _ := os.Hostname()
		w.Header().Set("X-Served-By", host)
		dir, err := os.OpenRoot(root)
		if err != nil {
			welcome(w, r, host, root)
			return
		}
		defer dir.Close()
		if _, err := dir.Stat("index.html"); r.URL.Path == "/" && errors.Is(err, fs.ErrNotExist) {
			welcome(w, r, host, root)
			return
		}
		http.FileServerFS(dir.FS()).ServeHTTP(w, r)
	})
	return mux
}

// welcome is the page of a folder that has none.
func welcome(w http.ResponseWriter, r *http.Request, host, root string) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!doctype html>\n<title>%[1]s</title>\n<h1>Ahoy from %[1]s</h1>\n<p>There is no index.html in %[2]s yet.</p>\n",
		html.EscapeString(host), html.EscapeString(root))
}

// status remembers what was answered, for the log.
type status struct {
	http.ResponseWriter
	code, bytes int
}

func (s *status) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }

func (s *status) Write(b []byte) (int, error) {
	n, err := s.ResponseWriter.Write(b)
	s.bytes += n
	return n, err
}

func logged(logger *log.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &status{ResponseWriter: w, code: http.StatusOK}
		begin := time.Now()
		next.ServeHTTP(s, r)
		// %q: what a client sends must not forge lines of the log.
		logger.Printf("%s %s %q %d %d %s", r.RemoteAddr, r.Method, r.URL.Path, s.code, s.bytes, time.Since(begin).Round(time.Microsecond))
	})
}
