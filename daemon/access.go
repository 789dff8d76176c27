// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"github.com/spf13/pflag"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/auth"
)

// Access is who may come in beside client certificates and ServiceAccount tokens. Flags are named as kube-apiserver's.
type Access struct {
	TokenAuthFile      string            `json:"token-auth-file"`
	RequestHeaderCA    string            `json:"requestheader-client-ca-file"`
	RequestHeaderNames []string          `json:"requestheader-allowed-names"`
	AnonymousAuth      bool              `json:"anonymous-auth"`
	BootstrapTokens    bool              `json:"enable-bootstrap-token-auth"`
	TokenWebhook       string            `json:"authentication-token-webhook-config-file"`
	AuthzWebhook       string            `json:"authorization-webhook-config-file"`
	OIDCIssuer         string            `json:"oidc-issuer-url"`
	OIDCClientID       string            `json:"oidc-client-id"`
	OIDCUsernameClaim  string            `json:"oidc-username-claim"`
	OIDCUsernamePrefix string            `json:"oidc-username-prefix"`
	OIDCGroupsClaim    string            `json:"oidc-groups-claim"`
	OIDCGroupsPrefix   string            `json:"oidc-groups-prefix"`
	OIDCCAFile         string            `json:"oidc-ca-file"`
	OIDCSigningAlgs    []string          `json:"oidc-signing-algs"`
	OIDCRequiredClaims map[string]string `json:"oidc-required-claim"`
}

func defaultAccess() Access {
	return Access{AnonymousAuth: true, BootstrapTokens: true, OIDCUsernameClaim: "sub", OIDCSigningAlgs: []string{"RS256"}}
}

func (a *Access) addFlags(f *pflag.FlagSet) {
	f.StringVar(&a.TokenAuthFile, "token-auth-file", a.TokenAuthFile, "CSV file of bearer tokens: token,user,uid,\"group1,group2\"")
	f.StringVar(&a.RequestHeaderCA, "requestheader-client-ca-file", a.RequestHeaderCA, "certificates of proxies that may say in X-Remote- headers for whom they ask")
	f.StringSliceVar(&a.RequestHeaderNames, "requestheader-allowed-names", a.RequestHeaderNames, "common names of such proxies (default any)")
	f.BoolVar(&a.AnonymousAuth, "anonymous-auth", a.AnonymousAuth, "let requests without credentials through as system:anonymous")
	f.BoolVar(&a.BootstrapTokens, "enable-bootstrap-token-auth", a.BootstrapTokens, "accept the bootstrap tokens in Secrets of kube-system")
	f.StringVar(&a.TokenWebhook, "authentication-token-webhook-config-file", a.TokenWebhook, "kubeconfig of a server that is asked whose a token is")
	f.StringVar(&a.AuthzWebhook, "authorization-webhook-config-file", a.AuthzWebhook, "kubeconfig of a server that is asked for what RBAC does not allow")
	f.StringVar(&a.OIDCIssuer, "oidc-issuer-url", a.OIDCIssuer, "OpenID Connect issuer whose ID tokens are accepted")
	f.StringVar(&a.OIDCClientID, "oidc-client-id", a.OIDCClientID, "audience that ID tokens must have")
	f.StringVar(&a.OIDCUsernameClaim, "oidc-username-claim", a.OIDCUsernameClaim, "claim that names the user")
	f.StringVar(&a.OIDCUsernamePrefix, "oidc-username-prefix", a.OIDCUsernamePrefix, "put before user names (default the issuer and #; - for nothing)")
	f.StringVar(&a.OIDCGroupsClaim, "oidc-groups-claim", a.OIDCGroupsClaim, "claim that names the groups")
	f.StringVar(&a.OIDCGroupsPrefix, "oidc-groups-prefix", a.OIDCGroupsPrefix, "put before group names")
	f.StringVar(&a.OIDCCAFile, "oidc-ca-file", a.OIDCCAFile, "certificates to verify the issuer with (default the system's)")
	f.StringSliceVar(&a.OIDCSigningAlgs, "oidc-signing-algs", a.OIDCSigningAlgs, "signature algorithms that are accepted")
	f.StringToStringVar(&a.OIDCRequiredClaims, "oidc-required-claim", a.OIDCRequiredClaims, "claim=value that ID tokens must have")
}

// into puts what was chosen into the API server's configuration.
func (a Access) into(c *apiserver.Config) {
	c.TokenWebhook, c.AuthorizationWebhook = a.TokenWebhook, a.AuthzWebhook
	c.Auth = auth.Options{
		TokenFile: a.TokenAuthFile, RequestHeaderCA: a.RequestHeaderCA, RequestHeaderNames: a.RequestHeaderNames,
		NoAnonymous: !a.AnonymousAuth, NoBootstrap: !a.BootstrapTokens,
		OIDC: auth.OIDC{
			IssuerURL: a.OIDCIssuer, ClientID: a.OIDCClientID, UsernameClaim: a.OIDCUsernameClaim, UsernamePrefix: a.OIDCUsernamePrefix,
			GroupsClaim: a.OIDCGroupsClaim, GroupsPrefix: a.OIDCGroupsPrefix, CAFile: a.OIDCCAFile, SigningAlgs: a.OIDCSigningAlgs,
			RequiredClaims: a.OIDCRequiredClaims,
		},
	}
}
