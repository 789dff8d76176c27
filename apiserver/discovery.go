// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/knarr/knarr/apiserver/aggregate"
	"github.com/knarr/knarr/apiserver/openapi"
	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// discovery is what the server says it serves, made once from the kinds.
type discovery struct {
	byVersion map[schema.GroupVersion][]metav1.APIResource
	others    map[schema.GroupVersion]*aggregate.Server // which of them another server answers
	groups    []metav1.APIGroup                         // the core group is not among them
	core      aggregated                                // /api
	named     aggregated                                // /apis
}

// aggregated is a whole discovery document with its hash, so that clients need not read it twice.
type aggregated struct {
	body []byte
	etag string
}

// described is what the server says of the kinds it serves; it is made anew when the kinds change and somebody asks.
type described struct {
	fixed http.Handler // configured: serves /openapi/ whatever the kinds are

	mu   sync.Mutex // guards the rest
	last *description
	docs *openapi.Docs
}

// description is of one set of kinds.
type description struct {
	kinds     *cache.Kinds
	others    *aggregate.List
	discovery *discovery
	openapi   http.Handler
}

func newDescribed(fixed http.Handler) *described {
	return &described{fixed: fixed, docs: openapi.New(kinds.All, kinds.Virtual)}
}

func (d *described) of(k *cache.Kinds, others *aggregate.List) *description {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil && d.last.kinds == k && d.last.others == others {
		return d.last
	}
	custom := k.Custom()
	d.docs = d.docs.With(custom, foreign(others))
	d.last = &description{kinds: k, others: others, discovery: newDiscovery(others, kinds.All, kinds.Virtual, custom), openapi: d.docs}
	if d.fixed != nil {
		d.last.openapi = d.fixed
	}
	return d.last
}

// foreign are the documents of other servers.
func foreign(others *aggregate.List) []openapi.Foreign {
	var out []openapi.Foreign
	for _, o := range others.All {
		out = append(out, openapi.Foreign{GroupVersion: o.GroupVersion, V2: o.Documents.V2, Hash: o.Documents.Hash})
	}
	return out
}

func newDiscovery(others *aggregate.List, lists ...[]*kinds.Type) *discovery {
	d := &discovery{byVersion: map[schema.GroupVersion][]metav1.APIResource{}, others: map[schema.GroupVersion]*aggregate.Server{}}
	for _, list := range lists {
		for _, t := range list {
			for i := range t.Served {
				v := &t.Served[i]
				d.byVersion[v.GroupVersion()] = append(d.byVersion[v.GroupVersion()], resourcesOf(t, v)...)
			}
		}
	}
	for _, o := range others.All {
		d.byVersion[o.GroupVersion] = slices.Clone(o.Resources)
		d.others[o.GroupVersion] = o
	}
	for _, resources := range d.byVersion {
		sort.SliceStable(resources, func(i, j int) bool { return resources[i].Name < resources[j].Name })
	}
	d.groups = d.groupsOf()
	d.core = d.aggregate([]metav1.APIGroup{{Versions: []metav1.GroupVersionForDiscovery{{GroupVersion: "v1", Version: "v1"}}}})
	d.named = d.aggregate(d.groups)
	return d
}

func resourcesOf(t *kinds.Type, v *kinds.Version) []metav1.APIResource {
	main := metav1.APIResource{
		Name: t.Plural, SingularName: t.Singular, Namespaced: !t.Cluster, Kind: v.Kind,
		ShortNames: t.Short, Categories: t.Categories,
		Verbs: metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
	}
	if t.Virtual {
		main.Verbs = metav1.Verbs{"create"}
		return []metav1.APIResource{main}
	}
	if t.Plural == "namespaces" {
		main.Verbs = slices.DeleteFunc(main.Verbs, func(v string) bool { return v == "deletecollection" })
	}
	sum := sha256.Sum256([]byte(t.Group + "/" + t.Plural + "/" + t.Kind))
	main.StorageVersionHash = hexHash(sum[:])
	list := []metav1.APIResource{main}
	sub := func(name, kind string, verbs metav1.Verbs) *metav1.APIResource {
		list = append(list, metav1.APIResource{Name: t.Plural + "/" + name, Namespaced: !t.Cluster, Kind: kind, Verbs: verbs})
		return &list[len(list)-1]
	}
	if t.HasStatus {
		sub("status", v.Kind, metav1.Verbs{"get", "patch", "update"})
	}
	for _, s := range rest.Subresources(t) {
		kind := s.Kind
		if kind.Empty() {
			kind = v.GroupVersionKind
		}
		verbs := metav1.Verbs{}
		for _, verb := range s.Verbs {
			verbs = append(verbs, string(verb))
		}
		r := sub(s.Name, kind.Kind, verbs)
		if kind.GroupVersion() != v.GroupVersion() {
			r.Group, r.Version = kind.Group, kind.Version
		}
	}
	for _, c := range rest.Connections(t) {
		sub(c.Name, c.Kind, c.Verbs)
	}
	return list
}

func hexHash(sum []byte) string { return hex.EncodeToString(sum[:8]) }

// groupsOf lists the named groups; of a group's versions the stable and newest comes first.
func (d *discovery) groupsOf() []metav1.APIGroup {
	versions := map[string][]string{}
	for gv := range d.byVersion {
		if gv.Group != "" {
			versions[gv.Group] = append(versions[gv.Group], gv.Version)
		}
	}
	var groups []metav1.APIGroup
	for name, list := range versions {
		sort.Slice(list, func(i, j int) bool { return version.CompareKubeAwareVersionStrings(list[i], list[j]) > 0 })
		g := metav1.APIGroup{Name: name}
		for _, v := range list {
			g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v, Version: v})
		}
		g.PreferredVersion = g.Versions[0]
		groups = append(groups, g)
	}
	// apps first: where a word is of two groups (events, and once deployments), clients take the first.
	sort.Slice(groups, func(i, j int) bool { return d.rank(groups[i]) < d.rank(groups[j]) })
	return groups
}

func (d *discovery) rank(g metav1.APIGroup) string {
	switch g.Name {
	case "apps":
		return "0"
	case "extensions":
		return "2"
	}
	first := g.PreferredVersion
	if o := d.others[schema.GroupVersion{Group: g.Name, Version: first.Version}]; o != nil {
		return fmt.Sprintf("3 %05d %s", 20000-o.Priority, g.Name) // what is in the program goes before
	}
	return "1" + g.Name
}

func (d *discovery) aggregate(groups []metav1.APIGroup) aggregated {
	doc := apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{APIVersion: "apidiscovery.k8s.io/v2", Kind: "APIGroupDiscoveryList"},
	}
	for _, g := range groups {
		out := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.Name}}
		for _, v := range g.Versions {
			gv := schema.GroupVersion{Group: g.Name, Version: v.Version}
			fresh := apidiscoveryv2.DiscoveryFreshnessCurrent
			if o := d.others[gv]; o != nil && !o.Available() {
				fresh = apidiscoveryv2.DiscoveryFreshnessStale
			}
			out.Versions = append(out.Versions, apidiscoveryv2.APIVersionDiscovery{
				Version: v.Version, Freshness: fresh, Resources: nested(gv, d.byVersion[gv]),
			})
		}
		doc.Items = append(doc.Items, out)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		panic(err) // made of strings alone
	}
	sum := sha256.Sum256(body)
	return aggregated{body: append(body, '\n'), etag: `"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`}
}

// nested puts the subresources under their resources.
func nested(gv schema.GroupVersion, flat []metav1.APIResource) []apidiscoveryv2.APIResourceDiscovery {
	var out []apidiscoveryv2.APIResourceDiscovery
	for _, r := range flat {
		kind := &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: r.Kind}
		if r.Version != "" {
			kind.Group, kind.Version = r.Group, r.Version
		}
		if parent, sub, ok := strings.Cut(r.Name, "/"); ok {
			i := slices.IndexFunc(out, func(o apidiscoveryv2.APIResourceDiscovery) bool { return o.Resource == parent })
			if i < 0 { // not a resource by itself, as another server may have it
				out = append(out, apidiscoveryv2.APIResourceDiscovery{Resource: parent, ResponseKind: &metav1.GroupVersionKind{}, Scope: scopeOf(r), Verbs: metav1.Verbs{}})
				i = len(out) - 1
			}
			out[i].Subresources = append(out[i].Subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: sub, ResponseKind: kind, Verbs: r.Verbs})
			continue
		}
		out = append(out, apidiscoveryv2.APIResourceDiscovery{
			Resource: r.Name, ResponseKind: kind, Scope: scopeOf(r), SingularResource: r.SingularName,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
		})
	}
	return out
}

func scopeOf(r metav1.APIResource) apidiscoveryv2.ResourceScope {
	if r.Namespaced {
		return apidiscoveryv2.ScopeNamespace
	}
	return apidiscoveryv2.ScopeCluster
}

// serve answers below /api and /apis; ok is false for what is no discovery path.
func (d *discovery) serve(w http.ResponseWriter, r *http.Request, address string) (ok bool, err error) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) == 1 && parts[0] == "api":
		if d.core.serve(w, r) {
			return true, nil
		}
		return true, sendJSON(w, r, metav1.APIVersions{
			TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: address}},
		})
	case len(parts) == 1 && parts[0] == "apis":
		if d.named.serve(w, r) {
			return true, nil
		}
		return true, sendJSON(w, r, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: d.groups})
	case len(parts) == 2 && parts[0] == "apis":
		for _, g := range d.groups {
			if g.Name == parts[1] {
				g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
				return true, sendJSON(w, r, g)
			}
		}
	case len(parts) == 2 && parts[0] == "api":
		return d.serveVersion(w, r, schema.GroupVersion{Version: parts[1]})
	case len(parts) == 3 && parts[0] == "apis":
		return d.serveVersion(w, r, schema.GroupVersion{Group: parts[1], Version: parts[2]})
	}
	return false, nil
}

func (d *discovery) serveVersion(w http.ResponseWriter, r *http.Request, gv schema.GroupVersion) (bool, error) {
	list, ok := d.byVersion[gv]
	if !ok {
		return false, nil
	}
	return true, sendJSON(w, r, metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String(), APIResources: list,
	})
}

// serve sends the whole document if the client asks for it.
func (a aggregated) serve(w http.ResponseWriter, r *http.Request) bool {
	wanted := false
	for _, clause := range strings.Split(r.Header.Get("Accept"), ",") {
		typ, p, err := mime.ParseMediaType(clause)
		if err == nil && typ == "application/json" {
			wanted = p["g"] == "apidiscovery.k8s.io" && p["v"] == "v2" && p["as"] == "APIGroupDiscoveryList"
			break
		}
		if err == nil && (typ == "*/*" || typ == "application/*") {
			break
		}
	}
	w.Header().Set("Vary", "Accept")
	if !wanted {
		return false
	}
	h := w.Header()
	h.Set("Etag", a.etag)
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h.Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	h.Set("Cache-Control", "public")
	w.WriteHeader(http.StatusOK)
	// An error here is the client gone away.
	_, _ = w.Write(a.body)
	return true
}
