// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
)

// Client is a Doer for the objects of one Go type. Make it with For; it is a value, cheap to make.
type Client[T any] struct {
	do      Doer
	t       *kinds.Type
	manager string
}

// For makes a client of the kind whose hub Go type is T: client.For[corev1.Pod](doer). manager is the field manager its
// writes are noted under; "" leaves that to the server.
func For[T any](do Doer, manager string) Client[T] {
	return Client[T]{do: do, t: kinds.For[T](), manager: manager}
}

func (c Client[T]) send(ctx context.Context, r Request) (*T, error) {
	r.Type, r.FieldManager = c.t, c.manager
	obj, err := c.do.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if obj == nil {
		return nil, nil
	}
	out, ok := any(obj).(*T)
	if !ok {
		return nil, fmt.Errorf("%s %s %s: the answer is a %T", r.Verb, c.t.Plural, r.Name, obj)
	}
	return out, nil
}

// Get reads one object.
func (c Client[T]) Get(ctx context.Context, ns, name string) (*T, error) {
	return c.send(ctx, Request{Verb: Get, Namespace: ns, Name: name})
}

// Create makes an object.
func (c Client[T]) Create(ctx context.Context, obj *T) (*T, error) {
	return c.write(ctx, Create, obj, "")
}

// Update replaces an object; its resourceVersion, if set, is the precondition.
func (c Client[T]) Update(ctx context.Context, obj *T) (*T, error) {
	return c.write(ctx, Update, obj, "")
}

// UpdateStatus replaces an object's status.
func (c Client[T]) UpdateStatus(ctx context.Context, obj *T) (*T, error) {
	return c.write(ctx, Update, obj, "status")
}

func (c Client[T]) write(ctx context.Context, v Verb, obj *T, sub string) (*T, error) {
	o := any(obj).(kinds.Object) // kinds.For has checked that *T is one
	return c.send(ctx, Request{Verb: v, Namespace: o.GetNamespace(), Name: o.GetName(), Object: o, Subresource: sub})
}

// Patch changes an object or one of its subresources.
func (c Client[T]) Patch(ctx context.Context, ns, name string, pt types.PatchType, patch []byte, sub string) (*T, error) {
	return c.send(ctx, Request{Verb: Patch, Namespace: ns, Name: name, PatchType: pt, Patch: patch, Subresource: sub})
}

// DeleteOptions narrow a deletion. The zero value deletes whatever has the name, as its kind does by default.
type DeleteOptions struct {
	UID             types.UID
	ResourceVersion string
	GracePeriod     *int64
	Propagation     string
}

// Delete removes an object, or begins to.
func (c Client[T]) Delete(ctx context.Context, ns, name string, o DeleteOptions) error {
	_, err := c.do.Do(ctx, Request{
		Verb: Delete, Type: c.t, Namespace: ns, Name: name, UID: o.UID, ResourceVersion: o.ResourceVersion,
		GracePeriod: o.GracePeriod, Propagation: o.Propagation, FieldManager: c.manager,
	})
	return err
}
