// SPDX-License-Identifier: Apache-2.0

// Command testcontainers drives a Docker daemon as a test suite does that uses testcontainers-go: containers with each kind
// of wait, files in and out, exec, logs, a network, an image from a Dockerfile. It wants the image "web" of examples/web and
// its folder as its argument, and is a module of its own, so that its dependencies do not become Knarr's.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) //house:allow context.Background: it is the program's own
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"served", served}, {"worked", worked}, {"networked", networked}, {"built", built}} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Println(step.name)
	}
	return nil
}

// with runs a container for as long as do.
func with(ctx context.Context, do func(testcontainers.Container) error, options ...testcontainers.ContainerCustomizer) error {
	c, err := testcontainers.Run(ctx, "web", options...)
	if err == nil {
		err = do(c)
	}
	if c != nil {
		if end := c.Terminate(ctx, testcontainers.StopTimeout(time.Second)); err == nil {
			err = end
		}
	}
	return err
}

// served waits for a port, a log line and a page.
func served(ctx context.Context) error {
	return with(ctx, func(c testcontainers.Container) error {
		url, err := c.PortEndpoint(ctx, "80/tcp", "http")
		if err != nil {
			return err
		}
		resp, err := http.Get(url + "/page")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if page, _ := io.ReadAll(resp.Body); string(page) != "copied" {
			return fmt.Errorf("the page is %q (%s)", page, resp.Status)
		}
		back, err := c.CopyFileFromContainer(ctx, "/usr/share/nginx/html/page")
		if err != nil {
			return err
		}
		defer back.Close()
		if page, _ := io.ReadAll(back); string(page) != "copied" {
			return fmt.Errorf("copied back: %q", page)
		}
		state, err := c.State(ctx)
		if err != nil || !state.Running || state.Health == nil || state.Health.Status != "healthy" {
			return fmt.Errorf("state %+v, %w", state, err)
		}
		return nil
	},
		testcontainers.WithExposedPorts("80/tcp"),
		testcontainers.WithFiles(testcontainers.ContainerFile{Reader: strings.NewReader("copied"), ContainerFilePath: "/usr/share/nginx/html/page", FileMode: 0o644}),
		testcontainers.WithConfigModifier(healthCheck),
		testcontainers.WithWaitStrategy(wait.ForAll(
			wait.ForListeningPort("80/tcp"), wait.ForLog("serving .* on").AsRegexp(), wait.ForHTTP("/healthz").WithPort("80/tcp"),
			wait.ForHealthCheck().WithPollInterval(50*time.Millisecond))))
}

// worked waits for an end, and reads logs and an exec's answer.
func worked(ctx context.Context) error {
	err := with(ctx, func(c testcontainers.Container) error {
		logs, err := c.Logs(ctx)
		if err != nil {
			return err
		}
		defer logs.Close()
		if text, _ := io.ReadAll(logs); !strings.Contains(string(text), "hello") {
			return fmt.Errorf("logs %q", text)
		}
		return nil
	}, testcontainers.WithCmd("echo", "hello"), testcontainers.WithWaitStrategy(wait.ForExit()))
	if err != nil {
		return err
	}
	return with(ctx, func(c testcontainers.Container) error {
		code, out, err := c.Exec(ctx, []string{"/web", "exit", "7"})
		if err != nil || code != 7 {
			return fmt.Errorf("exec: %d, %w", code, err)
		}
		code, out, err = c.Exec(ctx, []string{"/web", "env"})
		if err != nil || code != 0 {
			return fmt.Errorf("exec: %d, %w", code, err)
		}
		if text, _ := io.ReadAll(out); !strings.Contains(string(text), "COLOUR=blue") {
			return fmt.Errorf("environment %q", text)
		}
		return nil
	}, testcontainers.WithCmd("sleep", "60"), testcontainers.WithEnv(map[string]string{"COLOUR": "blue"}),
		testcontainers.WithWaitStrategy(wait.ForExec([]string{"/web", "env"})))
}

// networked asks one container from another by its alias.
func networked(ctx context.Context) error {
	n, err := network.New(ctx)
	if err != nil {
		return err
	}
	err = with(ctx, func(testcontainers.Container) error {
		return with(ctx, func(c testcontainers.Container) error {
			s, err := c.State(ctx)
			if err != nil || s.ExitCode != 0 {
				return fmt.Errorf("the client ended with %d, %w", s.ExitCode, err)
			}
			return nil
		}, network.WithNetwork(nil, n), testcontainers.WithCmd("get", "-wait", "10s", "http://store/healthz"), testcontainers.WithWaitStrategy(wait.ForExit()))
	}, network.WithNetwork([]string{"store"}, n), testcontainers.WithWaitStrategy(wait.ForLog("serving")))
	if end := n.Remove(ctx); err == nil {
		err = end
	}
	return err
}

// built makes an image from a Dockerfile.
func built(ctx context.Context) error {
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{Started: true, ContainerRequest: testcontainers.ContainerRequest{
		FromDockerfile: testcontainers.FromDockerfile{Context: os.Args[1], Dockerfile: "Dockerfile"},
		Cmd:            []string{"echo", "from a Dockerfile"}, WaitingFor: wait.ForLog("from a Dockerfile"),
	}})
	if err != nil {
		return err
	}
	return c.Terminate(ctx)
}
