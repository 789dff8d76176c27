// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 clients may still send deprecated options

package apiserver

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// call is one request for objects on its way through.
type call struct {
	route
	user auth.User
	t    *kinds.Type
	v    *kinds.Version
}

// serveResource does what an authorised request for objects asks.
func (s *Server) serveResource(w http.ResponseWriter, r *http.Request, rt route, user auth.User) error {
	c := call{route: rt, user: user}
	var err error
	if c.t, c.v, err = s.find(r.Context(), rt.gvr); err != nil {
		return err
	}
	if c.t.Custom != nil && c.t.Custom.Warning != "" {
		warner(w)(c.t.Custom.Warning)
	}
	if rt.past != "" {
		return s.servePast(w, r, c)
	}
	if handler, ok := s.connect(c); ok {
		if err := s.admitConnection(w, r, c); err != nil {
			return err
		}
		return handler(w, r, c)
	}
	switch rt.verb {
	case "list", "watch":
		return s.serveList(w, r, c)
	case "get", "create", "update", "patch", "delete":
		return s.serveObject(w, r, c)
	case "deletecollection":
		return s.serveDeleteCollection(w, r, c)
	}
	return apierrors.NewMethodNotSupported(rt.gvr.GroupResource(), rt.verb)
}

// find is the kind that a URL names. One that is not known may have been defined a moment ago: what the client knows the
// store has, and the cache soon.
func (s *Server) find(ctx context.Context, gvr schema.GroupVersionResource) (*kinds.Type, *kinds.Version, error) {
	if t, v := s.cache.Snapshot().Kinds().FindResource(gvr); t != nil {
		return t, v, nil
	}
	if !strings.Contains(gvr.Group, ".") {
		return nil, nil, unknownResource()
	}
	now, err := s.newest(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, v := now.Kinds().FindResource(gvr)
	if t == nil {
		return nil, nil, unknownResource()
	}
	return t, v, nil
}

func unknownResource() error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "the server could not find the requested resource", 0, false)
}

// options reads the query's options of one of the meta/v1 types.
func options(r *http.Request, into runtime.Object) error {
	if err := runtime.NewParameterCodec(kinds.Scheme()).DecodeParameters(r.URL.Query(), schema.GroupVersion{Version: "v1"}, into); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

func listOptions(r *http.Request, name string) (rest.WatchOptions, *int64, error) {
	var in metav1.ListOptions
	if err := options(r, &in); err != nil {
		return rest.WatchOptions{}, nil, err
	}
	o := rest.WatchOptions{
		ListOptions: rest.ListOptions{
			ResourceVersion: in.ResourceVersion, ResourceVersionMatch: in.ResourceVersionMatch,
			Limit: in.Limit, Continue: in.Continue,
		},
		Bookmarks: in.AllowWatchBookmarks, InitialEvents: in.SendInitialEvents,
	}
	var err error
	if o.Labels, err = labels.Parse(in.LabelSelector); err != nil {
		return o, nil, apierrors.NewBadRequest("unable to parse requirement: " + err.Error())
	}
	if o.Fields, err = fields.ParseSelector(in.FieldSelector); err != nil {
		return o, nil, apierrors.NewBadRequest(err.Error())
	}
	if name != "" {
		o.Fields = fields.AndSelectors(o.Fields, fields.OneTermEqualSelector("metadata.name", name))
	}
	return o, in.TimeoutSeconds, nil
}

func (s *Server) serveList(w http.ResponseWriter, r *http.Request, c call) error {
	if c.t.Virtual || c.subresource != "" {
		return apierrors.NewMethodNotSupported(c.gvr.GroupResource(), c.verb)
	}
	o, seconds, err := listOptions(r, c.name)
	if err != nil {
		return err
	}
	m, err := acceptableFor(r, c.t)
	if err != nil {
		return err
	}
	enc := encoder{c.t, c.v, m}
	if c.verb == "watch" {
		return s.serveWatch(w, r, enc, c.namespace, o, seconds)
	}
	l, err := s.core.List(r.Context(), c.t, c.namespace, o.ListOptions)
	if err != nil {
		return err
	}
	return s.sendList(w, r, enc, l)
}

func (s *Server) sendList(w http.ResponseWriter, r *http.Request, enc encoder, l *rest.List) error {
	if enc.m.as == "Table" {
		t, err := newTabler(enc, r, s.now())
		if err != nil {
			return err
		}
		table, err := t.table(l.Entries, listMeta(l))
		if err != nil {
			return err
		}
		b, err := encodeAny(table, enc.m)
		if err == nil {
			send(w, r, http.StatusOK, enc.m, b)
		}
		return err
	}
	parts, err := enc.list(l)
	if err == nil {
		send(w, r, http.StatusOK, enc.m, parts...)
	}
	return err
}

// maxBody is the largest body that is read: what etcd takes, with room for JSON being longer.
const maxBody = 3 << 20

func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
}

// serveObject carries out a verb on one object.
func (s *Server) serveObject(w http.ResponseWriter, r *http.Request, c call) error {
	warn := warner(w)
	if text := c.v.Deprecated(c.t); text != "" {
		warn(text)
	}
	req := rest.Request{User: c.user, Version: c.v, Warn: warn, Tracked: true, Request: client.Request{
		Verb: client.Verb(c.verb), Type: c.t, Namespace: c.namespace, Name: c.name, Subresource: c.subresource,
	}}
	if err := s.fill(w, r, &req); err != nil {
		return err
	}
	a, err := s.execute(r.Context(), req)
	if err != nil {
		return err
	}
	return s.sendAnswer(w, r, c, a)
}

// fill reads query and body into req.
func (s *Server) fill(w http.ResponseWriter, r *http.Request, req *rest.Request) error {
	q := r.URL.Query()
	req.FieldManager = q.Get("fieldManager")
	if req.FieldManager == "" && req.Verb != client.Patch {
		req.FieldManager = managerOf(r.UserAgent())
	}
	if err := dryRun(req, q["dryRun"]); err != nil {
		return err
	}
	req.Validation = q.Get("fieldValidation")
	switch req.Validation {
	case "":
		req.Validation = rest.Warn
	case rest.Strict, rest.Warn, rest.Ignore:
	default:
		return apierrors.NewBadRequest("fieldValidation: Unsupported value: \"" + req.Validation + "\": supported values: \"Ignore\", \"Strict\", \"Warn\"")
	}
	switch req.Verb {
	case client.Get:
		req.ResourceVersion = q.Get("resourceVersion")
		return nil
	case client.Create, client.Update:
		return fillObject(w, r, req)
	case client.Patch:
		return fillPatch(w, r, req)
	case client.Delete:
		return fillDelete(w, r, req)
	}
	return nil
}

// managerOf is what upstream calls a field manager that did not name itself.
func managerOf(agent string) string {
	for i := range len(agent) {
		if agent[i] == '/' {
			return agent[:min(i, 128)]
		}
	}
	return agent[:min(len(agent), 128)]
}

func dryRun(req *rest.Request, values []string) error {
	for _, v := range values {
		if v != metav1.DryRunAll {
			return apierrors.NewBadRequest("dryRun: Unsupported value: \"" + v + "\": supported values: \"All\"")
		}
		req.DryRun = true
	}
	return nil
}

func fillObject(w http.ResponseWriter, r *http.Request, req *rest.Request) error {
	data, err := body(w, r)
	if err != nil {
		return err
	}
	f, err := bodyFormat(r)
	if err != nil {
		return err
	}
	if err := rest.CheckBody(data, f); err != nil {
		return err
	}
	gvk := req.Version.GroupVersionKind
	for _, sub := range rest.Subresources(req.Type) {
		if sub.Name == req.Subresource && !sub.Kind.Empty() {
			gvk = sub.Kind
		}
	}
	if gvk == req.Version.GroupVersionKind {
		req.Object, err = rest.DecodeHub(data, f, req.Version, req.Validation, req.Warn)
		return err
	}
	obj, _, err := rest.Decode(data, f, gvk, req.Validation, req.Warn)
	if err != nil {
		return err
	}
	var ok bool
	if req.Object, ok = obj.(kinds.Object); !ok || obj.GetObjectKind().GroupVersionKind().Kind != gvk.Kind {
		return apierrors.NewBadRequest("expected a " + gvk.Kind)
	}
	return nil
}

func fillPatch(w http.ResponseWriter, r *http.Request, req *rest.Request) (err error) {
	typ := contentTypeOf(r)
	if req.Patch, err = body(w, r); err != nil {
		return err
	}
	req.PatchType = types.PatchType(typ)
	req.Force = r.URL.Query().Get("force") == "true"
	if req.PatchType == types.ApplyYAMLPatchType {
		req.Verb = rest.Apply
		return rest.CheckBody(req.Patch, rest.YAML)
	}
	if req.FieldManager == "" {
		req.FieldManager = managerOf(r.UserAgent())
	}
	return rest.CheckBody(req.Patch, rest.JSON)
}

func contentTypeOf(r *http.Request) string {
	typ := r.Header.Get("Content-Type")
	for i := range len(typ) {
		if typ[i] == ';' {
			return typ[:i]
		}
	}
	return typ
}

func fillDelete(w http.ResponseWriter, r *http.Request, req *rest.Request) error {
	o := metav1.DeleteOptions{}
	data, err := body(w, r)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		f, err := bodyFormat(r)
		if err != nil {
			return err
		}
		if err := rest.CheckBody(data, f); err != nil {
			return err
		}
		gvk := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
		obj, _, err := rest.Decode(data, f, gvk, rest.Ignore, req.Warn)
		if err != nil {
			return err
		}
		got, ok := obj.(*metav1.DeleteOptions)
		if !ok {
			return apierrors.NewBadRequest("decoded object cannot be converted to DeleteOptions")
		}
		o = *got
	} else if err := options(r, &o); err != nil {
		return err
	}
	req.GracePeriod = o.GracePeriodSeconds
	if o.PropagationPolicy != nil {
		req.Propagation = string(*o.PropagationPolicy)
	}
	if o.OrphanDependents != nil {
		if req.Propagation != "" {
			return apierrors.NewBadRequest("orphanDependents and propagationPolicy cannot both be set")
		}
		req.Propagation = string(metav1.DeletePropagationBackground)
		if *o.OrphanDependents {
			req.Propagation = string(metav1.DeletePropagationOrphan)
		}
	}
	if p := o.Preconditions; p != nil {
		if p.UID != nil {
			req.UID = *p.UID
		}
		if p.ResourceVersion != nil {
			req.ResourceVersion = *p.ResourceVersion
		}
	}
	return dryRun(req, o.DryRun)
}

// returnsDeleted are the kinds whose deletion answers with the object's last state; of the others with a Status.
var returnsDeleted = []string{"pods", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims", "podtemplates", "resourcequotas"}

func (s *Server) sendAnswer(w http.ResponseWriter, r *http.Request, c call, a rest.Answer) error {
	code := http.StatusOK
	if a.Created {
		code = http.StatusCreated
	}
	obj, ok := a.Object.(kinds.Object)
	if !ok || c.t.Virtual || kinds.Of(obj) == nil || kinds.Of(obj).Prefix() != c.t.Prefix() {
		return sendObject(w, r, code, a.Object)
	}
	if a.Deleted && c.verb == "delete" && !slices.Contains(returnsDeleted, c.t.Plural) {
		return sendObject(w, r, code, &metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess,
			Details: &metav1.StatusDetails{Name: obj.GetName(), Group: c.t.Group, Kind: c.t.Plural, UID: obj.GetUID()},
		})
	}
	e := a.Entry
	if e == nil {
		e = &cache.Entry{Type: c.t, Object: obj}
	}
	m, err := acceptableFor(r, c.t)
	if err != nil {
		return err
	}
	enc := encoder{c.t, c.v, m}
	if m.as == "Table" {
		meta := metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}
		t, err := newTabler(enc, r, s.now())
		if err != nil {
			return err
		}
		table, err := t.table([]*cache.Entry{e}, meta)
		if err != nil {
			return err
		}
		b, err := encodeAny(table, m)
		if err == nil {
			send(w, r, code, m, b)
		}
		return err
	}
	b, err := enc.whole(e)
	if err != nil {
		return err
	}
	parts := [][]byte{b, []byte("\n")}
	switch m.format {
	case rest.YAML:
		if parts, err = asYAML(b); err != nil {
			return err
		}
	case rest.Protobuf:
		parts = parts[:1]
	}
	send(w, r, code, m, parts...)
	return nil
}

func (s *Server) serveDeleteCollection(w http.ResponseWriter, r *http.Request, c call) error {
	if c.t.Virtual || c.subresource != "" || c.t.Resource().Resource == "namespaces" || c.t.Resource().Resource == "services" && c.t.Group == "" && c.namespace == "" {
		return apierrors.NewMethodNotSupported(c.gvr.GroupResource(), c.verb)
	}
	o, _, err := listOptions(r, "")
	if err != nil {
		return err
	}
	req := rest.Request{User: c.user, Version: c.v, Warn: warner(w), Request: client.Request{
		Verb: client.Delete, Type: c.t, Namespace: c.namespace,
	}}
	if err := fillDelete(w, r, &req); err != nil {
		return err
	}
	l, err := s.core.DeleteCollection(r.Context(), req, o.ListOptions)
	if err != nil {
		return err
	}
	m, err := acceptableFor(r, c.t)
	if err != nil {
		return err
	}
	return s.sendList(w, r, encoder{c.t, c.v, m}, l)
}
