// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

// Registries says how registries are reached. The zero value is: each by https, loopback ones also by http.
type Registries struct {
	// Mirrors are asked before Docker Hub, in order: URLs without a path, "https://mirror.example".
	Mirrors []string
	// Insecure registries may speak plain http or show any certificate: "host", "host:port", an address range in CIDR form.
	Insecure []string
	// CertDirs hold a folder per registry, named host or host:port. In it *.crt are authorities to trust beside the
	// system's, and X.cert with X.key is shown to registries that ask who is calling.
	CertDirs []string
	// Peers are stores of other nodes, asked before any registry; nil for none.
	Peers func() []Peer
}

// Validate lists what is wrong with r.
func (r Registries) Validate() error {
	var faults []error
	for _, m := range r.Mirrors {
		if _, err := parseMirror(m); err != nil {
			faults = append(faults, err)
		}
	}
	for _, h := range r.Insecure {
		if strings.Contains(h, "://") || h == "" {
			faults = append(faults, errs.New(errs.Invalid, "insecure registry %q: want host[:port] or a range of addresses, no URL", h))
		}
	}
	return errors.Join(faults...)
}

func parseMirror(m string) (*url.URL, error) {
	u, err := url.Parse(m)
	switch {
	case err != nil:
		return nil, errs.New(errs.Invalid, "registry mirror %q: %w", m, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errs.New(errs.Invalid, "registry mirror %q: want http://host or https://host", m)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errs.New(errs.Invalid, "registry mirror %q: want a host alone, without path, query or password", m)
	}
	return u, nil
}

// endpoint is one place that has the repositories of a registry.
type endpoint struct {
	host     string // host[:port]
	plain    bool   // may speak http
	insecure bool   // its certificate is not looked at
	mirror   bool   // not the registry itself: the user's credentials are not for it
	certs    []string
}

const dockerHub = "docker.io"

// endpoints lists where to look for what a registry has, the registry itself last.
func (r Registries) endpoints(registry string) ([]endpoint, error) {
	var out []endpoint
	if registry == dockerHub {
		for _, m := range r.Mirrors {
			u, err := parseMirror(m)
			if err != nil {
				return nil, err
			}
			ep := r.endpoint(u.Host)
			ep.mirror, ep.plain = true, ep.plain || u.Scheme == "http"
			out = append(out, ep)
		}
	}
	return append(out, r.endpoint(registry)), nil
}

// endpoint is the registry itself. A loopback one is nobody else's, so plain http and any certificate will do, unless there
// is an authority for it.
func (r Registries) endpoint(host string) endpoint {
	ep := endpoint{host: host}
	for _, d := range r.CertDirs {
		if dir := filepath.Join(d, host); !strings.Contains(host, "/") && isFolder(dir) {
			ep.certs = append(ep.certs, dir)
		}
	}
	named := r.isInsecure(host)
	ep.plain = named || isLoopback(host)
	ep.insecure = named || isLoopback(host) && len(ep.certs) == 0
	return ep
}

func (r Registries) isInsecure(host string) bool {
	bare := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		bare = h
	}
	ip, ipErr := netip.ParseAddr(strings.Trim(bare, "[]"))
	return slices.ContainsFunc(r.Insecure, func(entry string) bool {
		if p, err := netip.ParsePrefix(entry); err == nil {
			return ipErr == nil && p.Contains(ip)
		}
		return strings.EqualFold(entry, host) || strings.EqualFold(entry, bare)
	})
}

func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = hostPort
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// transport is what requests to the endpoint go through.
func (ep endpoint) transport() (http.RoundTripper, error) {
	t := newTransport()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: ep.insecure} // only where the user said so, or on loopback
	for _, dir := range ep.certs {
		if err := addCertificates(t.TLSClientConfig, dir); err != nil {
			return nil, err
		}
	}
	if ep.plain {
		return t, nil
	}
	return httpsOnly{t}, nil
}

// addCertificates reads a registry's folder of authorities and client certificates.
func addCertificates(cfg *tls.Config, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("certificates of a registry: %w", err)
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".crt":
			if cfg.RootCAs == nil {
				if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
					cfg.RootCAs = x509.NewCertPool() // a machine without authorities trusts those of the folder
				}
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("certificates of a registry: %w", err)
			}
			if !cfg.RootCAs.AppendCertsFromPEM(data) {
				return errs.New(errs.Invalid, "%s has no certificate in PEM form", file)
			}
		case ".cert":
			key := strings.TrimSuffix(file, ".cert") + ".key"
			pair, err := tls.LoadX509KeyPair(file, key)
			if errors.Is(err, fs.ErrNotExist) {
				return errs.New(errs.Invalid, "the client certificate %s has no key %s", file, key)
			}
			if err != nil {
				return errs.New(errs.Invalid, "client certificate %s: %w", file, err)
			}
			cfg.Certificates = append(cfg.Certificates, pair)
		}
	}
	return nil
}
