// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"
	"strings"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

// Apply does all that a plan says, once: for tests and tools. The Loop has more to remember.
func Apply(ctx context.Context, doer client.Doer, events Recorder, manager string, p Plan) error {
	a := &applier{doer: doer, events: events, manager: manager, limit: make(chan struct{}, batchLimit)}
	return a.apply(ctx, &p)
}

// String writes a plan in one line: "create Pod default/web-*; delete Pod default/web-1; status Deployment default/web".
func (p Plan) String() string {
	var out []string
	for _, a := range p.Actions {
		out = append(out, describe(a))
	}
	if p.Status != nil {
		out = append(out, "status "+nameOf(p.Status))
	}
	if p.Again > 0 {
		out = append(out, "again in "+p.Again.String())
	}
	return strings.Join(out, "; ")
}

func describe(a Action) string {
	switch a := a.(type) {
	case Create:
		return "create " + nameOf(a.Object)
	case Update:
		if a.Subresource != "" {
			return "update " + a.Subresource + " of " + nameOf(a.Object)
		}
		return "update " + nameOf(a.Object)
	case UpdateStatus:
		return "status " + nameOf(a.Object)
	case Delete:
		if a.Propagation != "" {
			return "delete " + nameOf(a.Object) + " (" + a.Propagation + ")"
		}
		return "delete " + nameOf(a.Object)
	case Post:
		return "post " + a.Subresource + " of " + nameOf(a.Object)
	case Event:
		return fmt.Sprintf("event %s %q", a.Reason, a.Message)
	case Batch:
		return "{" + Plan{Actions: a.Actions}.String() + "}"
	}
	return fmt.Sprintf("%T", a)
}

func nameOf(o kinds.Object) string {
	kind := fmt.Sprintf("%T", o)
	if t := kinds.Of(o); t != nil {
		kind = t.Kind
	}
	name := o.GetName()
	if name == "" {
		name = o.GetGenerateName() + "*"
	}
	if o.GetNamespace() == "" {
		return kind + " " + name
	}
	return kind + " " + o.GetNamespace() + "/" + name
}
