// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/store"
)

// noResource is for errors about a request as a whole.
var noResource schema.GroupResource

// ListOptions narrows a list or a watch. Nil selectors select everything.
type ListOptions struct {
	Labels               labels.Selector
	Fields               fields.Selector
	ResourceVersion      string
	ResourceVersionMatch metav1.ResourceVersionMatch
	Limit                int64
	Continue             string
}

// List is part of a kind's objects at one revision.
type List struct {
	Revision  int64
	Entries   []*cache.Entry
	Continue  string
	Remaining *int64 // how many come after; nil: not known
}

// List reads the objects of a kind, in one namespace or ("") in all.
//
// Without a resourceVersion it is what the store has now; "0" is what the cache has; another one at least that state
// (NotOlderThan) or exactly it (Exact, or with a limit). Pages after the first read the revision of the first.
func (c *Core) List(ctx context.Context, t *kinds.Type, namespace string, o ListOptions) (*List, error) {
	if err := checkFields(t, o.Fields); err != nil {
		return nil, err
	}
	if o.Continue != "" {
		return c.nextPage(ctx, t, namespace, o)
	}
	rev, exact, err := listRevision(o)
	if err != nil {
		return nil, err
	}
	s := c.Cache.Snapshot()
	switch {
	case o.ResourceVersion == "":
		_, _, rev, err = c.Store.Get(ctx, t.Prefix())
		if err == nil {
			s, err = c.Cache.Wait(ctx, rev)
		}
	case exact && rev < s.Revision():
		return c.past(ctx, t, namespace, "", rev, o)
	case rev > s.Revision():
		s, err = c.waitFuture(ctx, rev)
	}
	if err != nil {
		return nil, err
	}
	if exact && s.Revision() != rev {
		return c.past(ctx, t, namespace, "", rev, o)
	}
	return c.shown(ctx, t, c.present(s, t, namespace, o))
}

// shown is a list in the version that was asked for.
func (c *Core) shown(ctx context.Context, t *kinds.Type, l *List) (_ *List, err error) {
	l.Entries, err = c.InVersion(ctx, t, l.Entries...)
	return l, err
}

// waitFuture waits a little for a revision that has not been seen: it may be on its way, or of another cluster.
func (c *Core) waitFuture(ctx context.Context, rev int64) (*cache.Snapshot, error) {
	waiting, done := context.WithTimeout(ctx, appearWithin)
	defer done()
	s, err := c.Cache.Wait(waiting, rev)
	if err == nil {
		return s, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	now := c.Cache.Snapshot().Revision()
	tooLarge := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", rev, now), 1)
	tooLarge.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
	}}
	return nil, tooLarge
}

func listRevision(o ListOptions) (rev int64, exact bool, err error) {
	switch o.ResourceVersionMatch {
	case "":
		exact = o.Limit > 0 && o.ResourceVersion != "" && o.ResourceVersion != "0"
	case metav1.ResourceVersionMatchNotOlderThan:
	case metav1.ResourceVersionMatchExact:
		exact = true
		if o.ResourceVersion == "0" {
			return 0, false, badList("resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
		}
	default:
		return 0, false, badList(fmt.Sprintf("resourceVersionMatch: Unsupported value: %q: supported values: \"Exact\", \"NotOlderThan\"", o.ResourceVersionMatch))
	}
	if o.ResourceVersion == "" {
		if o.ResourceVersionMatch != "" {
			return 0, false, badList("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided")
		}
		return 0, false, nil
	}
	rev, err = parseRevision(o.ResourceVersion)
	return rev, exact, err
}

func badList(text string) error {
	return apierrors.NewGenericServerResponse(422, "list", noResource, "", "ListOptions.meta.k8s.io \"\" is invalid: "+text, 0, true)
}

func parseRevision(s string) (int64, error) {
	rev, err := strconv.ParseInt(s, 10, 64)
	if err != nil || rev < 0 {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion: Invalid value: %q: invalid resource version", s))
	}
	return rev, nil
}

// present lists a snapshot.
func (c *Core) present(s *cache.Snapshot, t *kinds.Type, namespace string, o ListOptions) *List {
	l := &List{Revision: s.Revision()}
	f := newFilter(t, "", o)
	rest := int64(0)
	for e := range s.List(t, namespace) {
		if !f.matches(e) {
			continue
		}
		if o.Limit > 0 && int64(len(l.Entries)) == o.Limit {
			rest++
			if !f.all() {
				break
			}
			continue
		}
		l.Entries = append(l.Entries, e)
	}
	if rest > 0 {
		last := l.Entries[len(l.Entries)-1].Object
		l.Continue = token{l.Revision, last.GetNamespace(), last.GetName()}.encode()
		if f.all() {
			l.Remaining = &rest
		}
	}
	return l
}

// newestRevision in a token: of whatever revision is the newest when it is used.
const newestRevision = -1

// token says where the next page starts. It is opaque to clients.
type token struct {
	Revision  int64  `json:"rv"`
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"start"`
}

func (t token) encode() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // two strings and a number always encode
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseToken(s string) (at token, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &at)
	}
	return at, err
}

func (c *Core) nextPage(ctx context.Context, t *kinds.Type, namespace string, o ListOptions) (*List, error) {
	if o.ResourceVersion != "" && o.ResourceVersion != "0" {
		return nil, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	at, err := parseToken(o.Continue)
	if err != nil || at.Name == "" || at.Revision == 0 || at.Revision < newestRevision || strings.Contains(at.Namespace+at.Name, "\x00") || (namespace != "" && at.Namespace != namespace) {
		return nil, apierrors.NewBadRequest("invalid continue token: continue key is not valid")
	}
	if at.Revision == newestRevision {
		if _, _, at.Revision, err = c.Store.Get(ctx, t.Prefix()); err != nil {
			return nil, err
		}
	}
	return c.past(ctx, t, namespace, t.Key(at.Namespace, at.Name)+"\x00", at.Revision, o)
}

// past lists the store at an earlier revision.
func (c *Core) past(ctx context.Context, t *kinds.Type, namespace, from string, rev int64, o ListOptions) (*List, error) {
	prefix := t.Prefix()
	if namespace != "" && !t.Cluster {
		prefix += namespace + "/"
	}
	l := &List{Revision: rev}
	f := newFilter(t, "", o)
	for {
		page, err := c.Store.Range(ctx, prefix, store.RangeOptions{From: from, Limit: o.Limit, Revision: rev})
		if errors.Is(err, errs.Gone) {
			return nil, expired(o.Continue, rev)
		}
		if err != nil {
			return nil, err
		}
		for i := range page.KVs {
			e, err := decode(t, &page.KVs[i])
			if err != nil {
				return nil, err
			}
			if !f.matches(e) {
				continue
			}
			if o.Limit > 0 && int64(len(l.Entries)) == o.Limit {
				last := l.Entries[len(l.Entries)-1].Object
				l.Continue = token{rev, last.GetNamespace(), last.GetName()}.encode()
				if rest := page.Count - int64(i); f.all() {
					l.Remaining = &rest
				}
				return c.shown(ctx, t, l)
			}
			l.Entries = append(l.Entries, e)
		}
		if !page.More {
			return c.shown(ctx, t, l)
		}
		from = page.KVs[len(page.KVs)-1].Key + "\x00"
	}
}

// expired says that a revision is compacted. A list that was being continued may go on with what there is now, by the token
// in the answer.
func expired(continued string, rev int64) error {
	if at, err := parseToken(continued); continued != "" && err == nil {
		gone := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
			"You can start a new list without the continue parameter, or use the continue token in this response to retrieve the " +
			"remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, " +
			"modified, or deleted between the time the first chunk was returned and now may show up in the list.")
		gone.ErrStatus.Continue = token{newestRevision, at.Namespace, at.Name}.encode()
		return gone
	}
	return apierrors.NewResourceExpired(fmt.Sprintf("The resourceVersion for the provided list is too old: %d", rev))
}

// filter is what a list or watch selects.
type filter struct {
	t         *kinds.Type
	namespace string
	labels    labels.Selector
	fields    fields.Selector
}

func newFilter(t *kinds.Type, namespace string, o ListOptions) filter {
	f := filter{t: t, namespace: namespace}
	if o.Labels != nil && !o.Labels.Empty() {
		f.labels = o.Labels
	}
	if o.Fields != nil && !o.Fields.Empty() {
		f.fields = o.Fields
	}
	return f
}

func (f filter) all() bool { return f.labels == nil && f.fields == nil }

func (f filter) matches(e *cache.Entry) bool {
	if e == nil || f.namespace != "" && e.Object.GetNamespace() != f.namespace {
		return false
	}
	if f.labels != nil && !f.labels.Matches(labels.Set(e.Object.GetLabels())) {
		return false
	}
	return f.fields == nil || f.fields.Matches(f.t.Fields(e.Object))
}

// checkFields refuses selectors on fields the kind cannot select by.
func checkFields(t *kinds.Type, s fields.Selector) error {
	if s == nil || s.Empty() {
		return nil
	}
	have := t.Fields(t.New())
	for _, r := range s.Requirements() {
		if _, ok := have[r.Field]; !ok {
			return apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", r.Field))
		}
	}
	return nil
}
