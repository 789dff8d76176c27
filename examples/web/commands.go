// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// tool is one of the commands for a container without a shell.
type tool struct {
	usage string
	least int // arguments
	run   func(ctx context.Context, args []string) error
}

var tools = map[string]tool{
	"get":    {"get [-wait 10s] URL   fetch a page; -wait tries again for that long", 1, get},
	"cat":    {"cat FILE...           print files", 1, cat},
	"write":  {"write FILE TEXT...    write a file", 2, write},
	"ls":     {"ls DIR...             list folders", 1, ls},
	"env":    {"env                   print the environment", 0, env},
	"id":     {"id                    print user, groups, host name and addresses", 0, id},
	"lookup": {"lookup NAME...        ask the name server", 1, lookup},
	"sleep":  {"sleep SECONDS         wait; ends at once on SIGTERM", 1, sleep},
	"exit":   {"exit CODE             end with that code", 1, exit},
	"echo":   {"echo TEXT...          print", 0, func(_ context.Context, a []string) error { fmt.Println(strings.Join(a, " ")); return nil }},
}

// code is an exit code asked for, not a failure to report.
type code int

func (c code) Error() string { return "exit " + strconv.Itoa(int(c)) }

func command(ctx context.Context, name string, args []string) int {
	t, ok := tools[name]
	if !ok || len(args) < t.least {
		fmt.Fprintln(os.Stderr, "web [-port 80] [-root /usr/share/nginx/html]\n                           serve a folder")
		for _, n := range []string{"get", "cat", "write", "ls", "env", "id", "lookup", "sleep", "exit", "echo"} {
			fmt.Fprintln(os.Stderr, "web", tools[n].usage)
		}
		return 2
	}
	err := t.run(ctx, args)
	var c code
	switch {
	case errors.As(err, &c):
		return int(c)
	case err != nil:
		fmt.Fprintf(os.Stderr, "web %s: %v\n", name, err)
		return 1
	}
	return 0
}

func get(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	wait := flags.Duration("wait", 0, "try again for that long")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return errors.New("get takes one URL")
	}
	end := time.Now().Add(*wait)
	for {
		err := fetch(ctx, flags.Arg(0))
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func fetch(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func cat(_ context.Context, args []string) error {
	for _, name := range args {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func write(_ context.Context, args []string) error {
	return os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")+"\n"), 0o644)
}

func ls(_ context.Context, args []string) error {
	for _, dir := range args {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if about, err := e.Info(); err == nil {
				fmt.Println(about.Mode(), about.Size(), e.Name())
			}
		}
	}
	return nil
}

func env(context.Context, []string) error {
	for _, e := range os.Environ() {
		fmt.Println(e)
	}
	return nil
}

func id(context.Context, []string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	addresses, err := net.InterfaceAddrs()
	fmt.Println("user", os.Getuid(), "group", os.Getgid(), "groups", groups, "host", host, "addresses", addresses)
	return err
}

func lookup(ctx context.Context, args []string) error {
	for _, name := range args {
		addresses, err := net.DefaultResolver.LookupHost(ctx, name)
		if err != nil {
			return err
		}
		fmt.Println(name, strings.Join(addresses, " "))
	}
	return nil
}

func sleep(ctx context.Context, args []string) error {
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return code(143)
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return nil
	}
}

func exit(_ context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	return code(n)
}
