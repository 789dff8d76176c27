// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// maxDownload bounds what one ADD may fetch.
const maxDownload = 16 << 30

func isURL(src string) bool {
	return strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")
}

// isGit says whether a source is a repository, in the forms that Docker reads so.
func isGit(src string) bool {
	base, _, _ := strings.Cut(src, "#")
	base, _, _ = strings.Cut(base, "?")
	return strings.HasPrefix(src, "git://") || strings.HasPrefix(src, "ssh://") || strings.HasPrefix(src, "git@") || isURL(src) && strings.HasSuffix(base, ".git")
}

// fetch downloads a URL into a folder of its own and answers it as a source. No credentials are sent.
func (e *execution) fetch(ctx context.Context, name, src string, sum digest.Digest) (picked, error) {
	u, err := url.Parse(src)
	if err != nil || u.Host == "" {
		return picked{}, errs.New(errs.Invalid, "%s %s: not a URL", name, src)
	}
	dir, err := os.MkdirTemp(e.work, "fetch-")
	if err != nil {
		return picked{}, err
	}
	file := path.Base(path.Clean("/" + u.Path))
	if file == "/" || file == "." {
		file = "download"
	}
	full := filepath.Join(dir, file)
	if err := download(ctx, src, full, sum); err != nil {
		return picked{}, fmt.Errorf("%s %s: %w", name, src, err)
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return picked{}, err
	}
	t := &tree{root: root, what: "download"}
	s, _, err := t.collect(file)
	return picked{tree: t, source: s, remote: true}, err
}

func download(ctx context.Context, src, to string, sum digest.Digest) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src, nil)
	if err != nil {
		return errs.New(errs.Invalid, "%w", err)
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.ResponseHeaderTimeout, tr.DisableCompression = time.Minute, true // a compressed file stays as it is
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return errs.New(errs.Unavailable, "%w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errs.New(errs.Invalid, "the server says %s", res.Status)
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	check := digest.Canonical.Digester()
	n, err := io.Copy(io.MultiWriter(f, check.Hash()), io.LimitReader(res.Body, maxDownload+1))
	if err != nil {
		return errs.New(errs.Unavailable, "%w", err)
	}
	if n > maxDownload {
		return errs.New(errs.TooLarge, "more than %d bytes", int64(maxDownload))
	}
	if sum != "" && check.Digest() != sum {
		return errs.New(errs.Invalid, "digest mismatch: got %s, want %s", check.Digest(), sum)
	}
	if err := f.Close(); err != nil {
		return err
	}
	at := time.Unix(0, 0) // without a date of the server's the file is always the same
	if t, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		at = t
	}
	return os.Chtimes(to, at, at)
}

// parseChecksum reads ADD --checksum.
func parseChecksum(text string) (digest.Digest, error) {
	if text == "" {
		return "", nil
	}
	d, err := digest.Parse(text)
	if err != nil || d.Algorithm() != digest.SHA256 {
		return "", errs.New(errs.Invalid, "ADD --checksum=%s: want sha256:…", text)
	}
	return d, nil
}
