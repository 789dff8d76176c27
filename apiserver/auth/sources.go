// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/cache"
)

// Source knows one kind of bearer token. ok is false when the token is none of its kind, so that the next is asked; an error
// says that it is, and not good.
type Source interface {
	Identify(ctx context.Context, token string) (u User, ok bool, err error)
}

// Options are the sources beside certificates and ServiceAccount tokens. The zero value is what a cluster starts with.
type Options struct {
	TokenFile    string // CSV lines: token,user,uid[,"group1,group2"]
	OIDC         OIDC
	TokenWebhook Source // nil: none
	// Front proxies beside this server's own: PEM file of their authority, and the common names that may speak for
	// users; no names: all of that authority.
	RequestHeaderCA    string
	RequestHeaderNames []string

	NoAnonymous bool // requests without credentials are refused
	NoBootstrap bool // bootstrap tokens are refused
}

// staticTokens are the lines of a token file, by the hash of the token: looking one up takes as long whatever it is.
type staticTokens map[[sha256.Size]byte]User

// readTokens reads a token file.
func readTokens(path string) (staticTokens, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read token file: %w", err)
	}
	t, err := parseTokens(data)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	return t, nil
}

func parseTokens(data []byte) (staticTokens, error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord, r.TrimLeadingSpace, r.Comment = -1, true, '#'
	out := staticTokens{}
	for {
		f, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "%w", err)
		}
		line, _ := r.FieldPos(0)
		if len(f) < 3 || f[0] == "" || f[1] == "" {
			return nil, errs.New(errs.Invalid, "line %d: want token,user,uid and maybe groups", line)
		}
		u := User{Name: f[1], UID: f[2]}
		if len(f) > 3 {
			for _, g := range strings.Split(f[3], ",") {
				if g = strings.TrimSpace(g); g != "" {
					u.Groups = append(u.Groups, g)
				}
			}
		}
		key := sha256.Sum256([]byte(f[0]))
		if _, twice := out[key]; twice {
			return nil, errs.New(errs.Invalid, "line %d: the token is there twice", line)
		}
		out[key] = u
	}
}

// Identify implements Source.
func (s staticTokens) Identify(_ context.Context, token string) (User, bool, error) {
	u, ok := s[sha256.Sum256([]byte(token))]
	return u, ok, nil
}

// Bootstrap tokens: what a machine joins a cluster with.
const (
	bootstrapGroup  = "system:bootstrappers"
	bootstrapUser   = "system:bootstrap:"
	bootstrapSecret = "bootstrap-token-"
	bootstrapType   = corev1.SecretType("bootstrap.kubernetes.io/token")
)

var (
	bootstrapForm   = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	bootstrapGroups = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// bootstrapTokens are Secrets of kube-system.
type bootstrapTokens struct {
	state cache.Reader
	now   func() time.Time
}

// Identify implements Source.
func (b bootstrapTokens) Identify(_ context.Context, token string) (User, bool, error) {
	m := bootstrapForm.FindStringSubmatch(token)
	if m == nil {
		return User{}, false, nil
	}
	s, ok := cache.Get[corev1.Secret](b.state.Snapshot(), metav1.NamespaceSystem, bootstrapSecret+m[1])
	if !ok || s.Type != bootstrapType || s.DeletionTimestamp != nil {
		return User{}, true, errs.New(errs.Unauthentic, "there is no such bootstrap token")
	}
	if string(s.Data["token-id"]) != m[1] || subtle.ConstantTimeCompare(s.Data["token-secret"], []byte(m[2])) != 1 {
		return User{}, true, errs.New(errs.Unauthentic, "the bootstrap token's secret is another")
	}
	if string(s.Data["usage-bootstrap-authentication"]) != "true" {
		return User{}, true, errs.New(errs.Unauthentic, "the bootstrap token is not for authentication")
	}
	if text := string(s.Data["expiration"]); text != "" {
		end, err := time.Parse(time.RFC3339, text)
		if err != nil || !b.now().Before(end) {
			return User{}, true, errs.New(errs.Unauthentic, "the bootstrap token has ended")
		}
	}
	u := User{Name: bootstrapUser + m[1], Groups: []string{bootstrapGroup}}
	if text := string(s.Data["auth-extra-groups"]); text != "" {
		for _, g := range strings.Split(text, ",") {
			if !bootstrapGroups.MatchString(g) {
				return User{}, true, errs.New(errs.Unauthentic, "the bootstrap token's group %q does not begin with %s:", g, bootstrapGroup)
			}
			u.Groups = append(u.Groups, g)
		}
	}
	return u, true, nil
}
