// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/knarr/knarr/internal/errs"
)

func TestRunMounts(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	files := map[string]string{"src/a": "from context", "hidden": "x", ".dockerignore": "hidden\n"}
	const file = `FROM busybox AS tool
RUN mkdir -p /t && echo tool > /t/f
FROM busybox
RUN --mount=type=bind,source=src,target=/m cat /m/a > /a && ! touch /m/new
RUN --mount=source=src,target=/rw,rw echo new > /rw/a && cat /rw/a > /b
RUN --mount=target=/ctx ls /ctx > /listed
RUN --mount=from=tool,source=/t/f,target=/one cat /one > /c
RUN --mount=from=busybox,target=/img ls /img/bin/busybox > /d
RUN --mount=type=tmpfs,target=/tmpfs,size=1m echo x > /tmpfs/x && ls /tmpfs > /e
RUN --mount=type=cache,target=/root/.cache,mode=0700,uid=7 echo n >> /root/.cache/n; wc -l < /root/.cache/n > /n; stat -c "%a %u" /root/.cache >> /n
RUN --mount=type=secret,id=s cat /run/secrets/s > /got; stat -c %a /run/secrets/s >> /got
RUN --mount=type=secret,id=s,env=WORD echo $WORD > /word
RUN --mount=type=secret,id=none test ! -e /run/secrets/none
`
	dir := w.context(files)
	img := w.build(Request{ContextDir: dir, Source: []byte(file), Secrets: map[string][]byte{"s": []byte("hush\n")}})
	root := w.view(img)
	for name, want := range map[string]string{"a": "from context", "b": "new\n", "c": "tool\n", "d": "/img/bin/busybox\n", "e": "x\n", "n": "1\n700 7\n", "got": "hush\n400\n", "word": "hush\n"} {
		w.want(root, name, want)
	}
	if data, err := os.ReadFile(filepath.Join(root, "listed")); err != nil || strings.Contains(string(data), "hidden") || !strings.Contains(string(data), "src") {
		t.Errorf("%q %v", data, err)
	}
	for _, stub := range []string{"m", "rw", "ctx", "one", "img", "tmpfs", "root/.cache", "run/secrets", "root"} {
		if _, err := os.Lstat(filepath.Join(root, stub)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the mount point %s is in the image: %v", stub, err)
		}
	}
	w.want(dir, "src/a", "from context")
	runs := w.run.runs
	if w.build(Request{ContextDir: dir, Source: []byte(file), Secrets: map[string][]byte{"s": []byte("other")}}); w.run.runs != runs {
		t.Error("another secret ran a step again")
	}
	os.WriteFile(filepath.Join(dir, "src/a"), []byte("changed"), 0o644)
	if got := w.build(Request{ContextDir: dir, Source: []byte(file), Secrets: map[string][]byte{"s": []byte("other")}}); w.run.runs == runs {
		t.Error("another bound file did not run a step again")
	} else {
		w.want(w.view(got), "n", "2\n700 7\n")
	}
	for line, want := range map[string]string{
		"RUN --mount=type=secret,id=x,required=true true": "secret x: not found",
		"RUN --mount=type=ssh,required true":              "SSH agent default: not given",
		"RUN --mount=type=cache true":                     "a target is missing",
		"RUN --mount=source=nope,target=/x true":          "nope: not found in the build context",
		"RUN --mount=type=bind,target=/ true":             "target cannot be /",
		"RUN --network=host true":                         "--allow network.host",
		"RUN --security=insecure true":                    "is not supported",
	} {
		if _, err := w.try(Request{ContextDir: dir, Source: []byte("FROM busybox\n" + line + "\n")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
	w.build(Request{Source: []byte("FROM busybox\nRUN --network=host true\n"), Allow: []string{"network.host"}})
	if w.run.last.NetworkMode != "host" {
		t.Errorf("%+v", w.run.last)
	}
}

func TestSSHMount(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	sock := filepath.Join(t.TempDir(), "a")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("agent speaking\n"))
			c.Close()
		}
	}()
	img := w.build(Request{Source: []byte("FROM busybox\nRUN --mount=type=ssh,mode=0666 echo $SSH_AUTH_SOCK > /where; test -S $SSH_AUTH_SOCK || exit 1; stat -c %a $SSH_AUTH_SOCK > /mode\n"), SSH: map[string]string{"default": sock}})
	root := w.view(img)
	w.want(root, "where", "/run/buildkit/ssh_agent.0\n")
	name := filepath.Join(t.TempDir(), "agent")
	stop, err := forward(name, sock, 0, 0, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(c); string(said) != "agent speaking\n" {
		t.Error(string(said), err)
	}
	c.Close()
	stop()
	w.want(root, "mode", "666\n")
}

// Row 18: what a step left in a cache folder does not lead a later step, or the daemon, out of it.
func TestHostileCacheMount(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	host := t.TempDir()
	os.WriteFile(filepath.Join(host, "secret"), []byte("host"), 0o600)
	w.simple("FROM busybox\nRUN --mount=type=cache,id=c,target=/c rm -rf /c/* && ln -s "+host+" /c/sub && ln -s "+host+"/secret /c/file\n", nil)
	_, err := w.try(Request{Source: []byte("FROM busybox\nRUN --mount=type=cache,id=c,source=sub,target=/d ls -R /d > /out; cat /d/secret /d/sub/secret >> /out; true\n")})
	if err != nil {
		t.Fatal(err)
	}
	if img, err := w.try(Request{Source: []byte("FROM busybox\nRUN --mount=type=cache,id=c,target=/c cat /c/file /c/sub/secret > /out; true\n")}); err != nil {
		t.Error(err)
	} else {
		w.want(w.view(img), "out", "")
	}
	// A bound stage whose source is a link to the host leads to the stage's own file system.
	if _, err := w.try(Request{Source: []byte("FROM busybox AS evil\nRUN ln -s " + host + " /l\nFROM busybox\nRUN --mount=from=evil,source=/l,target=/m ls /m\n")}); err == nil || !strings.Contains(err.Error(), "not found in the stage") {
		t.Error(err)
	}
	if _, _, err := w.b.PruneMounts(PruneOptions{All: true}); err != nil {
		t.Error(err)
	}
	w.want(host, "secret", "host")
}

func TestCacheSharing(t *testing.T) {
	c := newCacheUsers()
	take := func(s instructions.ShareMode) ([]string, func(), error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return c.take(ctx, []cacheWant{{"other" + string(s), s}, {"id", s}})
	}
	k1, free1, err := take(instructions.MountSharingShared)
	if err != nil {
		t.Fatal(err)
	}
	if _, free, err := take(instructions.MountSharingShared); err != nil {
		t.Error("shared beside shared: ", err)
	} else {
		free()
	}
	if _, _, err := take(instructions.MountSharingLocked); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("locked beside shared: ", err)
	}
	k2, free2, err := take(instructions.MountSharingPrivate)
	if err != nil || k2[1] == k1[1] {
		t.Error("private beside shared: ", k1, k2, err)
	}
	free2()
	go func() { time.AfterFunc(5*time.Millisecond, free1) }()
	_, free3, err := take(instructions.MountSharingLocked)
	if err != nil {
		t.Fatal("locked after shared: ", err)
	}
	if _, _, err := take(instructions.MountSharingShared); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("shared beside locked: ", err)
	}
	if _, ok := c.claim(k1[1]); ok {
		t.Error("a folder in use was claimed")
	}
	free3()
	if len(c.users) != 0 || len(c.locked) != 0 {
		t.Errorf("left: %v %v", c.users, c.locked)
	}
	_ = errs.Invalid
}

// Both stages must run at once: each waits for what the other leaves in a shared cache.
func TestStagesRunAtOnce(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	const wait = "touch /c/$me; i=0; while [ ! -e /c/$other ]; do sleep 0.05; i=$((i+1)); [ $i -lt 100 ] || exit 1; done; echo $me > /me"
	img := w.simple("FROM busybox AS a\nARG me=a other=b\nRUN --mount=type=cache,id=x,target=/c "+wait+"\nFROM busybox AS b\nARG me=b other=a\nRUN --mount=type=cache,id=x,target=/c "+wait+
		"\nFROM scratch\nCOPY --from=a /me /a\nCOPY --from=b /me /b\n", nil)
	root := w.view(img)
	w.want(root, "a", "a\n")
	w.want(root, "b", "b\n")
	out := w.out.String()
	last := -1
	for _, s := range []string{"Step 1/9 : FROM busybox AS a", "Step 3/9 : RUN", "Step 4/9 : FROM busybox AS b", "Step 6/9 : RUN", "Step 7/9 : FROM scratch", "Step 9/9 : COPY", "Successfully built"} {
		at := strings.Index(out, s)
		if at <= last {
			t.Errorf("%q is not in its place:\n%s", s, out)
		}
		last = at
	}
}

func TestReproducible(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	r := Request{ContextDir: w.context(map[string]string{"f": "x"}), NoCache: true, Args: map[string]string{"SOURCE_DATE_EPOCH": "1000000000"},
		Source: []byte("FROM busybox\nRUN mkdir -p /d/e && echo x > /d/e/f && rm /bin/ls && ln -s x /d/l\nCOPY f /g/\nWORKDIR /w\nENV a=b\n"), Labels: map[string]string{"l": "1"}}
	one := w.build(r)
	<-time.After(1100 * time.Millisecond) // dates in layers are whole seconds
	two := w.build(r)
	if one.ID != two.ID || one.Config.Created.Unix() != 1e9 {
		t.Errorf("%s %v\n%s %v", one.ID, one.Layers, two.ID, two.Layers)
	}
	if strings.Contains(w.out.String(), "Using cache") {
		t.Error("the second build was cached")
	}
	if st, err := os.Stat(filepath.Join(w.view(one), "d/e/f")); err != nil || st.ModTime().Unix() != 1e9 {
		t.Error(st, err)
	}
	if _, err := w.try(Request{Source: []byte("FROM busybox\n"), Args: map[string]string{"SOURCE_DATE_EPOCH": "x"}}); !errors.Is(err, errs.Invalid) {
		t.Error(err)
	}
}
