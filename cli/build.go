// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/knarr/knarr/internal/version"
)

// buildFlags are the words of one build.
type buildFlags struct {
	o                                          client.ImageBuildOptions
	args, labels, secrets, agents, ulimits     []string
	file, output, progress, iidFile, metadata  string
	memory, memorySwap, shmSize, platform, dir string
	quiet                                      bool
	extras                                     buildExtras
}

// buildExtras is the daemon's header X-Knarr-Build: what Docker's classic API has no place for.
type buildExtras struct {
	Secrets    map[string][]byte `json:"secrets,omitempty"`
	SSH        map[string]string `json:"ssh,omitempty"`
	Allow      []string          `json:"allow,omitempty"`
	Dockerfile []byte            `json:"dockerfile,omitempty"`
	Events     bool              `json:"events"`
}

func (e *env) build() *cobra.Command {
	b := &buildFlags{}
	cmd := &cobra.Command{
		Use: "build [flags] FOLDER|URL|-", Short: "Build an image from a Dockerfile", Args: exactly("a folder"),
		Long: "Build an image from a Dockerfile. It is at once what pods run: no registry, no load step.\n" +
			"The folder is sent to the daemon without what its .dockerignore names; - reads a tar, or a Dockerfile alone, from stdin.\n" +
			"A git repository (https://host/repo.git#branch:folder) or the URL of a tar is fetched by the daemon.",
		Example: "  knarr build -t web .\n  knarr build -f Dockerfile.dev --build-arg VERSION=2 -t web:dev .\n  knarr build --secret id=token,src=token.txt -o out .",
		RunE: func(cmd *cobra.Command, pos []string) error {
			b.dir = pos[0]
			return e.runBuild(cmd, b)
		},
	}
	b.add(cmd)
	return cmd
}

func (b *buildFlags) add(cmd *cobra.Command) {
	f, o := cmd.Flags(), &b.o
	f.StringArrayVarP(&o.Tags, "tag", "t", nil, "NAME[:TAG]; may be given more than once")
	f.StringVarP(&b.file, "file", "f", "", "the Dockerfile (default FOLDER/Dockerfile); - is stdin")
	f.StringArrayVar(&b.args, "build-arg", nil, "KEY=VALUE, or KEY to take it from the environment")
	f.StringArrayVar(&b.labels, "label", nil, "KEY=VALUE")
	f.StringVar(&o.Target, "target", "", "the stage to build")
	f.StringVar(&o.NetworkMode, "network", "", "of RUN: default, none, host")
	f.BoolVar(&o.NoCache, "no-cache", false, "run every step again")
	f.BoolVar(&o.PullParent, "pull", false, "ask registries for newer base images")
	f.StringArrayVar(&o.CacheFrom, "cache-from", nil, "image whose steps count as cached")
	f.StringArrayVar(&b.secrets, "secret", nil, "id=ID,src=FILE or id=ID,env=NAME: for RUN --mount=type=secret")
	f.StringArrayVar(&b.agents, "ssh", nil, "default or ID=SOCKET: an SSH agent for RUN --mount=type=ssh")
	f.StringArrayVar(&b.extras.Allow, "allow", nil, "a right that a RUN may ask for: network.host")
	f.StringVarP(&b.output, "output", "o", "", "FOLDER, - or type=local|tar|docker|oci,dest=PATH: write the result here")
	f.StringVar(&b.progress, "progress", "auto", "auto, plain, tty, rawjson or quiet")
	f.StringVar(&b.iidFile, "iidfile", "", "write the image's ID to a file")
	f.StringVar(&b.metadata, "metadata-file", "", "write facts about the result to a file, as JSON")
	f.StringArrayVar(&o.ExtraHosts, "add-host", nil, "HOST:IP for RUN")
	f.StringVar(&b.shmSize, "shm-size", "", "size of /dev/shm for RUN, like 64m")
	f.StringArrayVar(&b.ulimits, "ulimit", nil, "NAME=SOFT[:HARD] for RUN")
	f.StringVarP(&b.memory, "memory", "m", "", "memory limit of a RUN, like 512m")
	f.StringVar(&b.memorySwap, "memory-swap", "", "memory and swap; -1 is unlimited swap")
	f.Int64Var(&o.CPUPeriod, "cpu-period", 0, "CFS period in microseconds")
	f.Int64Var(&o.CPUQuota, "cpu-quota", 0, "CFS quota in microseconds")
	f.Int64VarP(&o.CPUShares, "cpu-shares", "c", 0, "relative weight")
	f.StringVar(&o.CPUSetCPUs, "cpuset-cpus", "", "CPUs, like 0-2")
	f.StringVar(&o.CPUSetMems, "cpuset-mems", "", "memory nodes")
	f.StringVar(&b.platform, "platform", "", "OS/ARCH of the image")
	f.BoolVar(&o.Squash, "squash", false, "not supported: the error says what to do")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "print only the image's ID")
	for _, name := range []string{"rm", "force-rm", "load"} {
		f.Bool(name, true, "what is always done")
		f.MarkHidden(name)
	}
}

func (e *env) runBuild(cmd *cobra.Command, b *buildFlags) error {
	out, err := parseOutput(b.output)
	if err != nil {
		return usageError{err}
	}
	if err := b.read(cmd.Context(), e); err != nil {
		return err
	}
	header, err := json.Marshal(b.extras)
	if err != nil {
		return err
	}
	c, err := client.New(client.WithHost(e.address()), client.WithAPIVersion(version.DockerAPI),
		client.WithHTTPHeaders(map[string]string{"X-Knarr-Build": base64.StdEncoding.EncodeToString(header)}))
	if err != nil {
		return usageError{fmt.Errorf("--host %s: %w", e.address(), err)}
	}
	body, err := e.contextOf(b)
	if err != nil {
		return err
	}
	defer body.Close()
	res, err := c.ImageBuild(cmd.Context(), body, b.o)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	id, err := e.followBuild(res.Body, b.progressOf(e))
	if err != nil {
		return err
	}
	if b.quiet {
		fmt.Fprintln(e.out, id)
	}
	return errors.Join(b.writeFiles(id), e.writeOutput(cmd.Context(), c, out, id, b.o.Tags))
}

// read makes the request of the flags.
func (b *buildFlags) read(ctx context.Context, e *env) error {
	var err error
	o := &b.o
	o.Version, o.Remove = build.BuilderV1, true
	b.extras.Events = true
	if o.Labels, err = keyValues("--label", b.labels); err != nil {
		return usageError{err}
	}
	o.BuildArgs = buildArgs(b.args)
	if o.AuthConfigs, err = allAuths(ctx); err != nil {
		return err
	}
	if b.extras.Secrets, err = readSecrets(b.secrets); err != nil {
		return err
	}
	if b.extras.SSH, err = readAgents(b.agents); err != nil {
		return usageError{err}
	}
	for text, into := range map[*string]*int64{&b.memory: &o.Memory, &b.shmSize: &o.ShmSize, &b.memorySwap: &o.MemorySwap} {
		if *text == "-1" {
			*into = -1
		} else if *text != "" {
			if *into, err = size("a limit", *text); err != nil {
				return usageError{err}
			}
		}
	}
	for _, text := range b.ulimits {
		u, err := units.ParseUlimit(text)
		if err != nil {
			return usageError{fmt.Errorf("--ulimit %s: %w", text, err)}
		}
		o.Ulimits = append(o.Ulimits, u)
	}
	if b.platform != "" {
		p, err := parsePlatform(b.platform)
		if err != nil {
			return err
		}
		o.Platforms = append(o.Platforms, p)
	}
	return b.dockerfile(e)
}

// buildArgs also takes SOURCE_DATE_EPOCH from the environment, as reproducible builds expect.
func buildArgs(list []string) map[string]*string {
	out := map[string]*string{}
	for _, a := range append([]string{"SOURCE_DATE_EPOCH"}, list...) {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			v, ok = os.LookupEnv(k)
		}
		if ok {
			out[k] = &v
		}
	}
	return out
}

// dockerfile finds the Dockerfile: one that is not in what is sent goes along by itself.
func (b *buildFlags) dockerfile(e *env) error {
	if b.file == "" || b.dir == "-" && b.file != "-" || isRemote(b.dir) {
		b.o.Dockerfile = b.file
		return nil
	}
	var data []byte
	var err error
	if b.file == "-" {
		if b.dir == "-" {
			return usageError{errors.New("stdin cannot be both the folder and the Dockerfile")}
		}
		data, err = io.ReadAll(io.LimitReader(e.in, maxSentDockerfile+1))
	} else {
		rel, inside, ferr := dockerfileIn(b.dir, b.file)
		if ferr != nil || inside {
			b.o.Dockerfile = rel
			return ferr
		}
		data, err = os.ReadFile(b.file)
	}
	if err != nil {
		return err
	}
	if len(data) > maxSentDockerfile {
		return fmt.Errorf("the Dockerfile is larger than %d KiB; put it into the folder", maxSentDockerfile>>10)
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return errors.New("the Dockerfile is empty")
	}
	b.extras.Dockerfile = data
	return nil
}

// Bounds of what goes in a header, together below the daemon's.
const (
	maxSentDockerfile = 128 << 10
	maxSecrets        = 500 << 10
)

func isRemote(context string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "git@", "ssh://", "github.com/"} {
		if strings.HasPrefix(context, prefix) {
			return true
		}
	}
	return false
}

// contextOf is what is sent.
func (e *env) contextOf(b *buildFlags) (io.ReadCloser, error) {
	if isRemote(b.dir) {
		b.o.RemoteContext = b.dir
		if strings.HasPrefix(b.dir, "github.com/") {
			b.o.RemoteContext = "https://" + b.dir
		}
		return io.NopCloser(strings.NewReader("")), nil
	}
	return e.buildContext(b.dir, b.o.Dockerfile, b.extras.Dockerfile != nil)
}

// dockerfileIn makes -f, which is relative to here as with docker, relative to the folder; inside says whether it is in it.
// What is not here is looked for there.
func dockerfileIn(dir, file string) (rel string, inside bool, err error) {
	if _, err := os.Stat(file); err != nil {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			return "", false, fmt.Errorf("no Dockerfile %s here or in %s", file, dir)
		}
		return filepath.ToSlash(file), true, nil
	}
	absDir, err := filepath.Abs(dir)
	if err != nil {
		return "", false, err
	}
	absFile, err := filepath.Abs(file)
	if err != nil {
		return "", false, err
	}
	rel, err = filepath.Rel(absDir, absFile)
	return filepath.ToSlash(rel), err == nil && filepath.IsLocal(rel), nil
}

// readSecrets reads --secret id=ID[,src=FILE|,env=NAME]; without either it is the variable, else the file, of that name.
func readSecrets(list []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	total := 0
	for _, text := range list {
		var id, src, name string
		for _, field := range strings.Split(text, ",") {
			k, v, _ := strings.Cut(field, "=")
			switch k {
			case "id":
				id = v
			case "src", "source":
				src = v
			case "env":
				name = v
			case "type":
			default:
				return nil, usageError{fmt.Errorf("--secret %s: unknown field %s; want id=ID,src=FILE or id=ID,env=NAME", text, k)}
			}
		}
		if id == "" {
			return nil, usageError{fmt.Errorf("--secret %s: want id=ID,src=FILE or id=ID,env=NAME", text)}
		}
		value, ok := os.LookupEnv(cmp.Or(name, id))
		data := []byte(value)
		if src != "" || name == "" && !ok {
			var err error
			if data, err = os.ReadFile(cmp.Or(src, id)); err != nil {
				return nil, fmt.Errorf("secret %s: %w", id, err)
			}
		} else if !ok {
			return nil, fmt.Errorf("secret %s: the environment has no %s", id, name)
		}
		if total += len(data); total > maxSecrets {
			return nil, fmt.Errorf("the secrets are larger than %d KiB together", maxSecrets>>10)
		}
		out[id] = data
	}
	return out, nil
}

// readAgents reads --ssh default, or ID=SOCKET. The daemon connects to the socket, so it must be on its machine.
func readAgents(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range list {
		id, sock, _ := strings.Cut(text, "=")
		if sock == "" {
			sock = os.Getenv("SSH_AUTH_SOCK")
		}
		if sock == "" {
			return nil, fmt.Errorf("--ssh %s: no agent runs: SSH_AUTH_SOCK is not set", text)
		}
		st, err := os.Stat(sock)
		if err != nil {
			return nil, fmt.Errorf("--ssh %s: %w", text, err)
		}
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("--ssh %s: not the socket of an agent; add a key to one with ssh-add", text)
		}
		if sock, err = filepath.Abs(sock); err != nil {
			return nil, err
		}
		out[id] = sock
	}
	return out, nil
}

// writeFiles writes --iidfile and --metadata-file.
func (b *buildFlags) writeFiles(id string) error {
	var errOf []error
	if b.iidFile != "" {
		errOf = append(errOf, os.WriteFile(b.iidFile, []byte(id), 0o644))
	}
	if b.metadata != "" {
		facts := map[string]string{"containerimage.config.digest": id, "image.name": strings.Join(b.o.Tags, ",")}
		data, err := json.MarshalIndent(facts, "", "  ")
		errOf = append(errOf, err, os.WriteFile(b.metadata, append(data, '\n'), 0o644))
	}
	return errors.Join(errOf...)
}
