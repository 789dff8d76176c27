// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// A page behind the proxy believes to be at the root of its host. What it says of addresses there is put below the path
// at which the client sees it: redirects, and the links of HTML.

// below is the address to as the client is to see it: below prefix, if it is one of host's own. "" leaves it alone.
func below(prefix, host, to string) string {
	u, err := url.Parse(strings.TrimSpace(to))
	if err != nil || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") && u.Host == "" {
		return ""
	}
	own := u.Host == "" && u.Scheme == "" || host != "" && u.Host == host && (u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "")
	if !own || u.Path == prefix || strings.HasPrefix(u.Path, prefix+"/") {
		return ""
	}
	out := url.URL{Path: prefix + u.Path, RawQuery: u.RawQuery, Fragment: u.Fragment}
	return out.String()
}

// linking are the attributes of HTML that hold an address.
var linking = map[string]bool{
	"action": true, "background": true, "cite": true, "data": true, "formaction": true, "href": true, "icon": true,
	"longdesc": true, "poster": true, "src": true,
}

// rewriteHTML puts the links of a page below prefix. Other answers, and compressed ones, are left alone.
func rewriteHTML(res *http.Response, prefix, host string) {
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") || res.Header.Get("Content-Encoding") != "" ||
		res.StatusCode == http.StatusSwitchingProtocols || res.Request != nil && res.Request.Method == http.MethodHead {
		return
	}
	z := html.NewTokenizer(res.Body)
	z.SetMaxBuf(maxToken)
	res.Body = &rewritten{z: z, from: res.Body, prefix: prefix, host: host}
	res.Header.Del("Content-Length")
	res.ContentLength = -1
}

// maxToken is the longest tag or text of a page that is read as one.
const maxToken = 1 << 20

// rewritten reads a page with its links rewritten.
type rewritten struct {
	z            *html.Tokenizer
	from         io.Closer
	prefix, host string
	ready        bytes.Buffer
}

// Read yields the page.
func (p *rewritten) Read(b []byte) (int, error) {
	for p.ready.Len() == 0 {
		kind := p.z.Next()
		if kind == html.ErrorToken {
			// What was read of an unfinished tag is the page's too.
			p.ready.Write(p.z.Raw())
			if p.ready.Len() > 0 && p.z.Err() == io.EOF {
				break
			}
			return 0, p.z.Err()
		}
		raw := bytes.Clone(p.z.Raw())
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken || !p.links(raw) {
			p.ready.Write(raw)
		}
	}
	return p.ready.Read(b)
}

// links writes a tag with its links rewritten, or says that it has none to rewrite.
func (p *rewritten) links(raw []byte) bool {
	if !bytes.ContainsRune(raw, '/') {
		return false
	}
	tag, changed := p.z.Token(), false
	for i := range tag.Attr {
		a := &tag.Attr[i]
		if to := below(p.prefix, p.host, a.Val); linking[a.Key] && to != "" {
			a.Val, changed = to, true
		}
	}
	if changed {
		p.ready.WriteString(tag.String())
	}
	return changed
}

// Close ends the reading of the page.
func (p *rewritten) Close() error { return p.from.Close() }
