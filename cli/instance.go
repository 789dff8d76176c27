// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// instance says which daemon a command is about.
type instance struct {
	name, dataDir, runDir string
}

func (i *instance) addFlags(f *pflag.FlagSet) {
	f.StringVar(&i.name, "name", "knarr", "name of the instance")
	f.StringVar(&i.dataDir, "data-dir", "/var/lib/knarr", "its data folder")
	f.StringVar(&i.runDir, "run-dir", "/run/knarr", "its folder of sockets")
}

// mustBe refuses when --host or KNARR_HOST names another instance's daemon than i: a command that ends things must not end those
// of an instance that was not meant.
func (e *env) mustBe(i instance, command string) error {
	host := cmp.Or(e.host, os.Getenv("KNARR_HOST"))
	if host == "" || host == i.socket() {
		return nil
	}
	return usageError{fmt.Errorf("--host or KNARR_HOST is %s, but knarr %s is about the instance %s of %s; say --name, --data-dir and --run-dir of the one that you mean", host, command, i.name, i.runDir)}
}

func (i *instance) args() []string {
	return []string{"--name", i.name, "--data-dir", i.dataDir, "--run-dir", i.runDir}
}

func (i *instance) kubeconfig() string { return filepath.Join(i.dataDir, "kubeconfig") }
func (i *instance) logFile() string    { return filepath.Join(i.dataDir, "knarrd.log") }
func (i *instance) socket() string     { return "unix://" + filepath.Join(i.runDir, "engine.sock") }

// pid is the running daemon's; 0 when none runs. The daemon holds a lock on its pid file for as long as it lives.
func (i *instance) pid() (int, error) {
	f, err := os.Open(filepath.Join(i.runDir, "knarrd.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return 0, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	var buf [32]byte
	n, _ := f.ReadAt(buf[:], 0)
	pid, err := strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	if err != nil {
		return 0, fmt.Errorf("%s holds no process number: %w", f.Name(), err)
	}
	return pid, nil
}

// daemonBinary is knarrd: beside this program, else on PATH.
func daemonBinary() (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			p := filepath.Join(filepath.Dir(self), "knarrd")
			if _, err := os.Stat(p); err == nil {
				return p, nil
			}
		}
	}
	p, err := exec.LookPath("knarrd")
	if err != nil {
		return "", errors.New("knarrd is neither beside knarr nor on PATH; run make build")
	}
	return p, nil
}
