// SPDX-License-Identifier: Apache-2.0

// Command payload is what the tests put into images FROM scratch: one static program with a few verbs, so that no base
// image is needed. The verb is the first argument; without one it serves the web.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	verb := "serve"
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	if err := run(verb, os.Args[min(2, len(os.Args)):]); err != nil {
		fmt.Fprintln(os.Stderr, verb+":", err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	switch verb {
	case "true":
		return nil
	case "exit": // exit CODE
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "echo":
		for i, a := range args {
			if i > 0 {
				fmt.Print(" ")
			}
			fmt.Print(a)
		}
		fmt.Println()
	case "env":
		for _, kv := range os.Environ() {
			fmt.Println(kv)
		}
	case "cat":
		for _, path := range args {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			if _, err := io.Copy(os.Stdout, f); err != nil {
				return err
			}
		}
	case "cp": // cp FROM TO
		data, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		return os.WriteFile(args[1], data, 0o644)
	case "write": // write PATH TEXT
		return os.WriteFile(args[0], []byte(args[1]+"\n"), 0o644)
	case "get": // get URL
		return get(args[0])
	case "resolve": // resolve NAME
		addrs, err := net.LookupHost(args[0])
		if err != nil {
			return err
		}
		for _, a := range addrs {
			fmt.Println(a)
		}
	case "spin": // spin DURATION: burn one CPU and print how much of it was got, in percent
		return spin(args[0])
	case "count": // count: a line each 100 ms until SIGTERM, then exit 7
		return count()
	case "sleep":
		wait()
	case "deaf": // sleep without ever receiving SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("deaf")
		<-time.After(24 * time.Hour)
	case "eat": // eat MIB: take that much memory
		return eat(args[0])
	case "serve":
		return serve()
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
	return nil
}

func wait() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

func eat(mib string) error {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	var kept [][]byte
	for range n {
		page := make([]byte, 1<<20)
		for i := 0; i < len(page); i += 4096 {
			page[i] = 1
		}
		kept = append(kept, page)
	}
	fmt.Println("ate", len(kept), "MiB")
	return nil
}

func count() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	tick := time.NewTicker(100 * time.Millisecond)
	for n := 0; ; n++ {
		fmt.Println("line", n)
		select {
		case <-stop:
			os.Exit(7)
		case <-tick.C:
		}
	}
}

func get(url string) error {
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

func spin(d string) error {
	for_, err := time.ParseDuration(d)
	if err != nil {
		return err
	}
	start := time.Now()
	for time.Since(start) < for_ {
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	fmt.Printf("%d percent\n", int(100*cpu/time.Since(start)))
	return nil
}

// serve answers with this host's name on port 80, or $PORT.
func serve() error {
	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	s := &http.Server{Addr: ":" + port, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path)
		fmt.Fprintln(w, "hello from", host)
	})}
	go func() {
		wait()
		s.Close()
	}()
	fmt.Println("serving on", s.Addr)
	if err := s.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}
