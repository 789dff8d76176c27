// SPDX-License-Identifier: Apache-2.0

// Command payload is what the tests' containers run: small verbs that show what a process finds around it.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		return
	}
	verbs := map[string]func([]string){
		"echo":  func(a []string) { fmt.Println(strings.Join(a, " ")) },
		"err":   func(a []string) { fmt.Fprintln(os.Stderr, strings.Join(a, " ")) },
		"exit":  func(a []string) { os.Exit(number(a[0])) },
		"cat":   cat,
		"write": func(a []string) { check(os.WriteFile(a[0], []byte(a[1]), 0o644)) },
		"ls":    ls,
		"env": func([]string) {
			for _, e := range os.Environ() {
				fmt.Println(e)
			}
		},
		"id":    id,
		"sleep": func(a []string) { time.Sleep(time.Duration(number(a[0])) * time.Millisecond) },
		"wait":  wait,
		"lines": lines,
		"pwd":   func([]string) { d, err := os.Getwd(); check(err); fmt.Println(d) },
		"host":  func([]string) { h, err := os.Hostname(); check(err); fmt.Println(h) },
		"link":  func(a []string) { l, err := os.Readlink(a[0]); check(err); fmt.Println(l) },
		"addrs": addrs,
		"serve": serve,
		"dial":  dial,
		"copy":  func([]string) { _, err := io.Copy(os.Stdout, os.Stdin); check(err) },
		"eat":   eat,
		"deaf":  func([]string) { signal.Ignore(syscall.SIGTERM); fmt.Println("ready"); time.Sleep(time.Hour) },
		"spin": func([]string) {
			for {
			}
		},
	}
	verb := verbs[args[0]]
	if verb == nil {
		fmt.Fprintln(os.Stderr, "payload: no verb", args[0])
		os.Exit(2)
	}
	verb(args[1:])
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(s string) int { n, err := strconv.Atoi(s); check(err); return n }

func cat(a []string) {
	for _, f := range a {
		b, err := os.ReadFile(f)
		check(err)
		os.Stdout.Write(b)
	}
}

func ls(a []string) {
	for _, d := range a {
		entries, err := os.ReadDir(d)
		check(err)
		for _, e := range entries {
			fmt.Println(filepath.Join(d, e.Name()))
		}
	}
}

func id([]string) {
	groups, err := os.Getgroups()
	check(err)
	fmt.Println(os.Getuid(), os.Getgid(), groups)
}

// wait says "ready" and goes on until SIGTERM, which it answers with the exit code it was given.
func wait(a []string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGUSR1)
	fmt.Println("ready")
	s := <-c
	fmt.Println("got", s)
	if len(a) > 0 {
		os.Exit(number(a[0]))
	}
}

// lines writes n numbered lines with a pause of ms milliseconds between them.
func lines(a []string) {
	for i := range number(a[0]) {
		fmt.Println("line", i)
		if len(a) > 1 {
			time.Sleep(time.Duration(number(a[1])) * time.Millisecond)
		}
	}
}

func addrs([]string) {
	ifs, err := net.Interfaces()
	check(err)
	for _, i := range ifs {
		list, err := i.Addrs()
		check(err)
		for _, a := range list {
			fmt.Println(i.Name, a)
		}
	}
}

// serve answers each connection on a port with a word.
func serve(a []string) {
	l, err := net.Listen("tcp", ":"+a[0])
	check(err)
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		check(err)
		fmt.Fprintln(c, a[1])
		c.Close()
	}
}

func dial(a []string) {
	c, err := net.DialTimeout("tcp", a[0], 3*time.Second)
	check(err)
	_, err = io.Copy(os.Stdout, c)
	check(err)
}

// eat touches n MiB.
func eat(a []string) {
	var keep [][]byte
	for range number(a[0]) {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
	fmt.Println("ate", len(keep))
}
