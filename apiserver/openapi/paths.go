// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/knarr/knarr/kinds"
)

// paths turn types into operations at addresses.
type paths struct {
	defs *definitions
	out  map[string]spec.PathItem
}

// resource is one type in one served version, with what all its operations share.
type resource struct {
	t       *kinds.Type
	v       *kinds.Version
	id      string // CoreV1
	tag     string // core_v1
	prefix  string // /api/v1, /apis/apps/v1
	special string // Namespaced, or nothing
}

var (
	objectTypes      = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	listTypes        = append(append([]string{}, objectTypes...), "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
	customPatchTypes = []string{"application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"}

	patchTypes = []string{
		"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
		"application/apply-patch+yaml",
	}
)

func (p *paths) add(t *kinds.Type, v *kinds.Version, subresources []subresource) {
	r := resource{t: t, v: v, prefix: "/" + path(v.GroupVersion())}
	group, _, _ := strings.Cut(v.Group, ".")
	if group == "" {
		group = "core"
	}
	r.id = title(group) + title(v.Version)
	r.tag = group + "_" + v.Version
	if !t.Cluster {
		r.special = "Namespaced"
	}
	collection, item := r.prefix+"/"+t.Plural, ""
	if !t.Cluster {
		collection = r.prefix + "/namespaces/{namespace}/" + t.Plural
	}
	item = collection + "/{name}"
	if t.Virtual {
		p.out[collection] = p.item(r, collection, spec.PathItemProps{Post: p.create(r, v.GroupVersionKind, "", "post")})
		return
	}
	p.out[collection] = p.item(r, collection, spec.PathItemProps{
		Get:    p.list(r, "list"+r.id+r.special+v.Kind),
		Post:   p.create(r, v.GroupVersionKind, "", "post"),
		Delete: p.deleteCollection(r),
	})
	p.out[item] = p.item(r, item, spec.PathItemProps{
		Get:    p.read(r, v.GroupVersionKind, ""),
		Put:    p.replace(r, v.GroupVersionKind, ""),
		Patch:  p.patch(r, v.GroupVersionKind, ""),
		Delete: p.delete(r),
	})
	if !t.Cluster {
		all := r.prefix + "/" + t.Plural
		p.out[all] = p.item(r, all, spec.PathItemProps{Get: p.list(r, "list"+r.id+v.Kind+"ForAllNamespaces")})
	}
	for _, s := range subresources {
		p.subresource(r, item+"/"+s.name, s)
	}
}

func (p *paths) subresource(r resource, at string, s subresource) {
	gvk := s.kind
	if gvk.Empty() {
		gvk = r.v.GroupVersionKind
	}
	item := spec.PathItemProps{}
	for _, verb := range s.verbs {
		switch {
		case s.connect && verb == "create":
			item.Post = p.connect(r, s, "Post")
		case s.connect:
			item.Get = p.connect(r, s, "Get")
		case verb == "get":
			item.Get = p.read(r, gvk, s.name)
		case verb == "create":
			item.Post = p.create(r, gvk, s.name, "post")
		case verb == "update":
			item.Put = p.replace(r, gvk, s.name)
		case verb == "patch":
			item.Patch = p.patch(r, gvk, s.name)
		}
	}
	p.out[at] = p.item(r, at, item)
}

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// item adds the parameters in the address itself.
func (p *paths) item(r resource, at string, props spec.PathItemProps) spec.PathItem {
	if strings.Contains(at, "{name}") {
		props.Parameters = append(props.Parameters, parameter("path", "name", "string", "name of the "+r.v.Kind, true))
	}
	if strings.Contains(at, "{namespace}") {
		props.Parameters = append(props.Parameters, parameter("path", "namespace", "string", "the namespace of the object", true))
	}
	props.Parameters = append(props.Parameters, parameter("query", "pretty", "string", "If 'true', the answer is indented for people to read.", false))
	return spec.PathItem{PathItemProps: props}
}

func parameter(in, name, kind, description string, required bool) spec.Parameter {
	return spec.Parameter{
		SimpleSchema:      spec.SimpleSchema{Type: kind},
		ParamProps:        spec.ParamProps{In: in, Name: name, Description: description, Required: required},
		CommonValidations: spec.CommonValidations{UniqueItems: true},
	}
}

// query describes the fields of an options struct of meta/v1 as query parameters, in the words of its documentation.
func query(docs map[string]string, names ...string) []spec.Parameter {
	var out []spec.Parameter
	for _, n := range names {
		kind := "string"
		switch n {
		case "limit", "timeoutSeconds", "gracePeriodSeconds":
			kind = "integer"
		case "watch", "allowWatchBookmarks", "sendInitialEvents", "force", "orphanDependents", "ignoreStoreReadErrorWithClusterBreakingPotential":
			kind = "boolean"
		}
		out = append(out, parameter("query", n, kind, docs[n], false))
	}
	return out
}

func body(schema spec.Schema, required bool) spec.Parameter {
	return spec.Parameter{ParamProps: spec.ParamProps{In: "body", Name: "body", Required: required, Schema: &schema}}
}

// operation is what all have: who it belongs to, what it is about, how it may end.
func (p *paths) operation(r resource, id, action, description string, gvk schema.GroupVersionKind, answers map[int]*spec.Schema) *spec.Operation {
	op := &spec.Operation{OperationProps: spec.OperationProps{
		ID: id, Description: description, Tags: []string{r.tag}, Schemes: []string{"https"},
		Consumes: []string{"*/*"}, Produces: objectTypes,
		Responses: &spec.Responses{ResponsesProps: spec.ResponsesProps{StatusCodeResponses: map[int]spec.Response{}}},
	}}
	answers[http.StatusUnauthorized] = nil
	for code, s := range answers {
		op.Responses.StatusCodeResponses[code] = spec.Response{ResponseProps: spec.ResponseProps{Description: http.StatusText(code), Schema: s}}
	}
	op.AddExtension("x-kubernetes-action", action)
	op.AddExtension("x-kubernetes-group-version-kind", gvkExtension(gvk))
	return op
}

func (p *paths) answers(gvk schema.GroupVersionKind, codes ...int) map[int]*spec.Schema {
	s := p.defs.kind(gvk)
	out := map[int]*spec.Schema{}
	for _, c := range codes {
		out[c] = &s
	}
	return out
}

func (r resource) name(verb, sub string) string {
	return verb + r.id + r.special + r.v.Kind + title(sub)
}

// about is what an operation is on, for its description.
func (r resource) about(sub string) string {
	if sub != "" {
		return sub + " of the specified " + r.v.Kind
	}
	return "the specified " + r.v.Kind
}

var (
	listParams   = []string{"allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch"}
	writeParams  = []string{"dryRun", "fieldManager", "fieldValidation"}
	deleteParams = []string{"dryRun", "gracePeriodSeconds", "ignoreStoreReadErrorWithClusterBreakingPotential", "orphanDependents", "propagationPolicy"}
)

func (p *paths) list(r resource, id string) *spec.Operation {
	list := r.v.GroupVersionKind
	list.Kind += "List"
	if r.t.Custom != nil {
		list.Kind = r.t.Custom.ListKind
	}
	op := p.operation(r, id, "list", "list or watch objects of kind "+r.v.Kind, r.v.GroupVersionKind, p.answers(list, http.StatusOK))
	op.Produces = listTypes
	op.Parameters = query(metav1.ListOptions{}.SwaggerDoc(), listParams...)
	return op
}

func (p *paths) create(r resource, gvk schema.GroupVersionKind, sub, action string) *spec.Operation {
	description := "create a " + r.v.Kind
	if sub != "" {
		description = "create " + r.about(sub)
	}
	op := p.operation(r, r.name("create", sub), action, description, gvk, p.answers(gvk, http.StatusOK, http.StatusCreated, http.StatusAccepted))
	op.Parameters = append([]spec.Parameter{body(p.defs.kind(gvk), true)}, query(metav1.CreateOptions{}.SwaggerDoc(), writeParams...)...)
	return op
}

func (p *paths) read(r resource, gvk schema.GroupVersionKind, sub string) *spec.Operation {
	return p.operation(r, r.name("read", sub), "get", "read "+r.about(sub), gvk, p.answers(gvk, http.StatusOK))
}

func (p *paths) replace(r resource, gvk schema.GroupVersionKind, sub string) *spec.Operation {
	op := p.operation(r, r.name("replace", sub), "put", "replace "+r.about(sub), gvk, p.answers(gvk, http.StatusOK, http.StatusCreated))
	op.Parameters = append([]spec.Parameter{body(p.defs.kind(gvk), true)}, query(metav1.UpdateOptions{}.SwaggerDoc(), writeParams...)...)
	return op
}

func (p *paths) patch(r resource, gvk schema.GroupVersionKind, sub string) *spec.Operation {
	op := p.operation(r, r.name("patch", sub), "patch", "partially update "+r.about(sub), gvk, p.answers(gvk, http.StatusOK, http.StatusCreated))
	op.Consumes = patchTypes
	if r.t.Custom != nil {
		op.Consumes = customPatchTypes
	}
	patch := p.defs.raw("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", metav1.Patch{}.SwaggerDoc()[""])
	op.Parameters = append([]spec.Parameter{body(patch, true)}, query(metav1.PatchOptions{}.SwaggerDoc(), append([]string{"force"}, writeParams...)...)...)
	return op
}

func (p *paths) delete(r resource) *spec.Operation {
	status := schema.GroupVersionKind{Version: "v1", Kind: "Status"}
	op := p.operation(r, r.name("delete", ""), "delete", "delete "+r.about(""), r.v.GroupVersionKind, p.answers(status, http.StatusOK, http.StatusAccepted))
	op.Parameters = append([]spec.Parameter{body(p.options(), false)}, query(metav1.DeleteOptions{}.SwaggerDoc(), deleteParams...)...)
	return op
}

func (p *paths) deleteCollection(r resource) *spec.Operation {
	status := schema.GroupVersionKind{Version: "v1", Kind: "Status"}
	op := p.operation(r, "delete"+r.id+"Collection"+r.special+r.v.Kind, "deletecollection", "delete collection of "+r.v.Kind, r.v.GroupVersionKind, p.answers(status, http.StatusOK))
	op.Parameters = append([]spec.Parameter{body(p.options(), false)}, query(metav1.DeleteOptions{}.SwaggerDoc(), deleteParams...)...)
	op.Parameters = append(op.Parameters, query(metav1.ListOptions{}.SwaggerDoc(), "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds")...)
	return op
}

func (p *paths) options() spec.Schema {
	return p.defs.kind(schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"})
}

// connect is a stream or a text; its parameters are the fields of its options kind, where it has one.
func (p *paths) connect(r resource, s subresource, method string) *spec.Operation {
	gvk := s.kind
	if gvk.Empty() {
		gvk = r.v.GroupVersionKind
	}
	text := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"string"}}}
	op := p.operation(r, "connect"+r.id+method+r.special+r.v.Kind+title(s.name), "connect", "connect to "+r.about(s.name), gvk, map[int]*spec.Schema{http.StatusOK: text})
	op.Produces = []string{"*/*"}
	op.Parameters = p.optionParams(gvk)
	return op
}

func (p *paths) optionParams(gvk schema.GroupVersionKind) []spec.Parameter {
	if !strings.HasSuffix(gvk.Kind, "Options") {
		return nil
	}
	var out []spec.Parameter
	fields := p.defs.named(p.defs.kind(gvk)).Properties
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		s := fields[name]
		if name == "kind" || name == "apiVersion" || len(s.Type) == 0 {
			continue
		}
		kind := s.Type[0]
		if kind == "array" || kind == "object" {
			kind = "string"
		}
		out = append(out, parameter("query", name, kind, s.Description, false))
	}
	return out
}
