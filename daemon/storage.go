// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
	"github.com/knarr/knarr/state/store/etcd"
)

// Storage is where objects are kept, and how long their history. Flags about etcd are named as kube-apiserver's.
type Storage struct {
	EtcdEndpoints []string `json:"etcd-endpoints"`
	EtcdCAFile    string   `json:"etcd-cafile"`
	EtcdCertFile  string   `json:"etcd-certfile"`
	EtcdKeyFile   string   `json:"etcd-keyfile"`
	QuotaBytes    int64    `json:"quota-backend-bytes"`
	History       Duration `json:"history"`
}

// Duration is a time.Duration that is written as text ("24h") in a config file too.
type Duration time.Duration

// UnmarshalText reads "90m".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// defaultQuota is the largest an embedded database gets: etcd's own default.
const defaultQuota = 2 << 30

func defaultStorage() Storage {
	return Storage{QuotaBytes: defaultQuota, History: Duration(24 * time.Hour)}
}

func (s *Storage) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&s.EtcdEndpoints, "etcd-endpoints", s.EtcdEndpoints, "URLs of an existing etcd (default: an embedded one)")
	f.StringVar(&s.EtcdCAFile, "etcd-cafile", s.EtcdCAFile, "certificates to verify the existing etcd with (default the system's)")
	f.StringVar(&s.EtcdCertFile, "etcd-certfile", s.EtcdCertFile, "client certificate for the existing etcd")
	f.StringVar(&s.EtcdKeyFile, "etcd-keyfile", s.EtcdKeyFile, "key of --etcd-certfile")
	f.Int64Var(&s.QuotaBytes, "quota-backend-bytes", s.QuotaBytes, "size the embedded database may grow to; the last tenth is kept for deletions")
	f.TextVar(&s.History, "history", s.History, "how long past revisions of objects are kept for knarr history and undo, while half of the quota suffices")
}

func (s *Storage) faults(bad func(format string, args ...any)) {
	if (s.EtcdCertFile == "") != (s.EtcdKeyFile == "") {
		bad("--etcd-certfile and --etcd-keyfile belong together")
	}
	if len(s.EtcdEndpoints) == 0 && (s.EtcdCAFile != "" || s.EtcdCertFile != "") {
		bad("--etcd-cafile, --etcd-certfile: want --etcd-endpoints too")
	}
	if s.QuotaBytes < 1<<20 || s.QuotaBytes > 64<<30 {
		bad("--quota-backend-bytes %d: want 1 MiB to 64 GiB", s.QuotaBytes)
	}
	if time.Duration(s.History) < time.Minute {
		bad("--history %s: want a minute at least", time.Duration(s.History))
	}
}

// tls is nil when etcd is reached without.
func (s *Storage) tls() (*tls.Config, error) {
	if s.EtcdCAFile == "" && s.EtcdCertFile == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.EtcdCAFile != "" {
		pem, err := os.ReadFile(s.EtcdCAFile)
		if err != nil {
			return nil, fmt.Errorf("--etcd-cafile: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errs.New(errs.Invalid, "--etcd-cafile %s holds no certificate", s.EtcdCAFile)
		}
	}
	if s.EtcdCertFile != "" {
		// Read anew at each connection: certificates are renewed while we run.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(s.EtcdCertFile, s.EtcdKeyFile)
			return &pair, err
		}
		if _, err := c.GetClientCertificate(nil); err != nil {
			return nil, fmt.Errorf("--etcd-certfile: %w", err)
		}
	}
	return c, nil
}

func openStore(ctx context.Context, cfg Config, log *slog.Logger) (store.Store, error) {
	if len(cfg.EtcdEndpoints) == 0 {
		return etcd.OpenEmbedded(ctx, etcd.Embedded{Dir: etcdDir(cfg), Quota: cfg.QuotaBytes}, log)
	}
	conf, err := cfg.Storage.tls()
	if err != nil {
		return nil, err
	}
	return etcd.Open(ctx, etcd.Remote{Endpoints: cfg.EtcdEndpoints, TLS: conf}, log)
}

func etcdDir(cfg Config) string { return filepath.Join(cfg.DataDir, "etcd") }

// historyDir is where is kept who wrote what, and when revisions were written.
func historyDir(cfg Config) string { return filepath.Join(cfg.DataDir, "history") }
