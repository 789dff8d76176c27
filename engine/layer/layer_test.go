// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: sets owners and makes devices")
	}
}

func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		body := ""
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Typeflag, body = tar.TypeReg, h.Uname // the test's place for content
			h.Uname, h.Size = "", int64(len(body))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1500000000, 0)
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name, body string) tar.Header { return tar.Header{Name: name, Uname: body} }
func link(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}
func hard(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
}
func folder(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }

// jail is a directory to unpack into, with a neighbour that must stay as it is.
type jail struct{ base, root string }

func newJail(t testing.TB) jail {
	t.Helper()
	j := jail{base: t.TempDir()}
	j.root = filepath.Join(j.base, "root")
	if err := errors.Join(os.Mkdir(j.root, 0o755), os.WriteFile(filepath.Join(j.base, "host"), []byte("host"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j jail) unpack(t testing.TB, data []byte, opt UnpackOptions) error {
	t.Helper()
	root, err := inroot.Open(j.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	_, err = Unpack(t.Context(), root, bytes.NewReader(data), opt)
	return err
}

// intact fails if anything outside root was touched.
func (j jail) intact(t testing.TB) {
	t.Helper()
	list, err := os.ReadDir(j.base)
	if err != nil || len(list) != 2 {
		t.Fatalf("beside the root: %v %v", list, err)
	}
	st, err := os.Lstat(filepath.Join(j.base, "host"))
	data, rerr := os.ReadFile(filepath.Join(j.base, "host"))
	if err != nil || rerr != nil || string(data) != "host" || st.Mode() != 0o600 || st.Sys() == nil {
		t.Fatalf("the host's file was changed: %q %v %v %v", data, st, err, rerr)
	}
}

func (j jail) pack(t testing.TB) []byte {
	t.Helper()
	root, err := inroot.Open(j.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var buf bytes.Buffer
	if err := Pack(t.Context(), root, &buf, PackOptions{Whiteouts: true}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Row 12: a layer cannot write, link, change modes or whiteouts outside its directory, whatever its entries are called.
func TestHostileNamesStayInside(t *testing.T) {
	needRoot(t)
	for name, headers := range map[string][]tar.Header{
		"dot dot":                    {file("../host", "evil"), file("../../../../host", "evil")},
		"absolute":                   {file("/host", "evil")},
		"link up, then through":      {link("up", ".."), file("up/host", "evil")},
		"link to host, then through": {link("x", "/"), file("x/host", "evil")},
		"link chain":                 {link("a", "b"), link("b", ".."), file("a/host", "evil")},
		"dir becomes link":           {folder("d"), file("d/f", "1"), link("d", ".."), file("d/host", "evil")},
		"replace through link":       {link("l", "../host"), file("l", "evil")},
		"chmod through link":         {link("l", "../host"), {Name: "l", Typeflag: tar.TypeDir, Mode: 0o777}},
		"hard link up":               {hard("h", "../host"), file("h", "evil")},
		"hard link through link":     {link("up", ".."), hard("h", "up/host"), file("h", "evil")},
		"whiteout up":                {folder("d"), file("d/.wh...", ""), file(".wh..", "")},
		"whiteout through link":      {link("up", ".."), file("up/.wh.host", "")},
		"opaque through link":        {link("up", ".."), file("up/.wh..wh..opq", "")},
		"magic link":                 {link("m", "/proc/self/root"), file("m/host", "evil")},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJail(t)
			err := j.unpack(t, tarOf(t, headers...), UnpackOptions{Whiteouts: true})
			t.Log(err)
			j.intact(t)
			if v := make([]byte, 8); true {
				if n, err := unix.Lgetxattr(j.base, opaqueXattr, v); err == nil {
					t.Fatalf("host directory made opaque: %q", v[:n])
				}
			}
		})
	}
}

func TestWhiteouts(t *testing.T) {
	needRoot(t)
	j := newJail(t)
	err := j.unpack(t, tarOf(t, file(".wh.gone", ""), folder("d"), file("d/.wh..wh..opq", ""), file("d/new", "n"),
		file(".wh.redone", ""), folder("redone"), file("kept", "k"), file(".wh.kept", ""), folder("dir"), file("dir/in", "i"), file(".wh.dir", ""),
		file(".wh..wh.plnk", "aufs")), UnpackOptions{Whiteouts: true})
	if err != nil {
		t.Fatal(err)
	}
	isDev := func(name string) bool {
		var st unix.Stat_t
		return unix.Lstat(filepath.Join(j.root, name), &st) == nil && isWhiteout(&st)
	}
	opaque := func(name string) bool {
		v := make([]byte, 2)
		n, err := unix.Lgetxattr(filepath.Join(j.root, name), opaqueXattr, v)
		return err == nil && n == 1 && v[0] == 'y'
	}
	if !isDev("gone") || isDev("kept") || isDev("redone") || !opaque("d") || !opaque("redone") || !opaque("dir") {
		t.Errorf("gone %v kept %v redone %v; opaque d %v redone %v dir %v", isDev("gone"), isDev("kept"), isDev("redone"), opaque("d"), opaque("redone"), opaque("dir"))
	}
	if _, err := os.Lstat(filepath.Join(j.root, ".wh..wh.plnk")); err == nil {
		t.Error("aufs' own file was unpacked")
	}
	var names []string
	for tr := tar.NewReader(bytes.NewReader(j.pack(t))); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "d/ d/.wh..wh..opq d/new dir/ dir/.wh..wh..opq dir/in .wh.gone kept redone/ redone/.wh..wh..opq" {
		t.Errorf("packed: %s", got)
	}
}

// Attributes survive, and what would steer overlayfs does not.
func TestAttributes(t *testing.T) {
	needRoot(t)
	j := newJail(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	pax := map[string]string{paxXattr + capXattr: capability, paxXattr + "user.note": "hello", paxXattr + "trusted.overlay.redirect": "/etc", paxXattr + "user.overlay.opaque": "y"}
	err := j.unpack(t, tarOf(t, tar.Header{Name: "bin", Uname: "x", Mode: 0o4711, Uid: 1000, Gid: 70000, PAXRecords: pax, Format: tar.FormatPAX},
		hard("same", "bin"), tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		tar.Header{Name: "dir", Typeflag: tar.TypeDir, Mode: 0o1777, ModTime: time.Unix(1400000000, 0)}, file("dir/f", ""),
		tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}, link("l", "nowhere")), UnpackOptions{Whiteouts: true})
	if err != nil {
		t.Fatal(err)
	}
	var st, same, null, dir unix.Stat_t
	for name, to := range map[string]*unix.Stat_t{"bin": &st, "same": &same, "null": &null, "dir": &dir} {
		if err := unix.Lstat(filepath.Join(j.root, name), to); err != nil {
			t.Fatal(err)
		}
	}
	if st.Mode&0o7777 != 0o4711 || st.Uid != 1000 || st.Gid != 70000 || st.Mtim.Sec != 1500000000 || st.Ino != same.Ino {
		t.Errorf("bin %+v same %+v", st, same)
	}
	if null.Mode != unix.S_IFCHR|0o666 || null.Rdev != unix.Mkdev(1, 3) || dir.Mode&0o7777 != 0o1777 || dir.Mtim.Sec != 1400000000 {
		t.Errorf("null %+v dir %+v", null, dir)
	}
	for name, want := range map[string]string{capXattr: capability, "user.note": "hello", "trusted.overlay.redirect": "", "user.overlay.opaque": ""} {
		v := make([]byte, 64)
		n, _ := unix.Lgetxattr(filepath.Join(j.root, "bin"), name, v)
		if string(v[:max(n, 0)]) != want {
			t.Errorf("%s = %q", name, v[:max(n, 0)])
		}
	}
	// Pack is a fixed point: the tree it makes packs to the same bytes.
	first := j.pack(t)
	k := newJail(t)
	if err := k.unpack(t, first, UnpackOptions{Whiteouts: true}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, k.pack(t)) {
		t.Error("packed, unpacked and packed again it differs")
	}
}

// Row 16: bombs end at a bound.
func TestLimits(t *testing.T) {
	needRoot(t)
	small := Limits{Entries: 3, Bytes: 1000, Path: 50, Depth: 4}
	for name, data := range map[string][]byte{
		"entries": tarOf(t, file("a", ""), file("b", ""), file("c", ""), file("d", "")),
		"bytes":   tarOf(t, file("a", strings.Repeat("x", 600)), file("b", strings.Repeat("x", 600))),
		"path":    tarOf(t, file(strings.Repeat("x", 60), "")),
		"depth":   tarOf(t, file("a/b/c/d/e/f", "")),
		"target":  tarOf(t, link("l", strings.Repeat("x", 60))),
	} {
		if err := newJail(t).unpack(t, data, UnpackOptions{Limits: small}); !errors.Is(err, errs.TooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	tw := tar.NewWriter(z)
	tw.WriteHeader(&tar.Header{Name: "etc/group", Size: 64 << 20, Mode: 0o644})
	io.CopyN(tw, zeroReader{}, 64<<20)
	tw.Close()
	z.Close()
	plain, _, err := Decompress(&buf)
	if err != nil {
		t.Fatal(err)
	}
	j := newJail(t)
	root, _ := inroot.Open(j.root)
	defer root.Close()
	got, err := Unpack(t.Context(), root, plain, UnpackOptions{Limits: Limits{Bytes: 1 << 20}})
	if !errors.Is(err, errs.TooLarge) || got.Bytes > 1<<20 {
		t.Errorf("gzip bomb: %d bytes, %v", got.Bytes, err)
	}
	full := Limits{Reserve: 1 << 60}
	if err := newJail(t).unpack(t, tarOf(t, file("big", strings.Repeat("x", 65<<20))), UnpackOptions{Limits: full}); !errors.Is(err, errs.TooLarge) {
		t.Errorf("a full disk: %v", err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestMalformed(t *testing.T) {
	needRoot(t)
	good := tarOf(t, file("a", strings.Repeat("x", 5000)))
	for name, data := range map[string][]byte{"garbage": bytes.Repeat([]byte("garbage "), 200), "cut": good[:2000]} {
		if err := newJail(t).unpack(t, data, UnpackOptions{}); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, h := range map[string]tar.Header{"owner -1": {Name: "a", Uid: 1<<32 - 1, Format: tar.FormatPAX}, "unknown type": {Name: "a", Typeflag: 'Z'}} {
		if err := newJail(t).unpack(t, tarOf(t, h), UnpackOptions{}); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeepKind(t *testing.T) {
	needRoot(t)
	j := newJail(t)
	os.Mkdir(filepath.Join(j.root, "d"), 0o755)
	if err := j.unpack(t, tarOf(t, file("d", "x")), UnpackOptions{KeepKind: true}); !errors.Is(err, errs.Conflict) {
		t.Error(err)
	}
}

func FuzzUnpack(f *testing.F) {
	needRoot(f)
	f.Add(tarOf(f, file("a", "1"), link("l", ".."), hard("h", "a"), file("l/host", "x"), file(".wh.a", "")))
	f.Add(tarOf(f, folder("d"), file("d/.wh..wh..opq", ""), link("d", "/"), file("d/host", "evil")))
	f.Add([]byte("not a tar"))
	f.Fuzz(func(t *testing.T, data []byte) {
		j := newJail(t)
		err := j.unpack(t, data, UnpackOptions{Whiteouts: true, Limits: Limits{Entries: 200, Bytes: 1 << 20, Reserve: 1}})
		j.intact(t)
		if err != nil {
			return
		}
		first := j.pack(t) // what was unpacked can be packed, and is then stable
		k := newJail(t)
		if err := k.unpack(t, first, UnpackOptions{Whiteouts: true}); err != nil {
			t.Fatalf("own tar: %v", err)
		}
		if !bytes.Equal(first, k.pack(t)) {
			t.Fatal("pack is not stable")
		}
	})
}
