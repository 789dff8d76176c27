// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/kinds"
)

// namespaceLifecycle keeps objects out of namespaces that do not exist or are ending, and keeps the namespaces that every
// cluster needs. With provision (upstream's NamespaceAutoProvision) a missing namespace is made instead.
func namespaceLifecycle(provision func(context.Context, string) error) Step {
	return Step{Name: "NamespaceLifecycle", Mutate: func(ctx context.Context, r *Request) error {
		namespaces := kinds.For[corev1.Namespace]()
		if r.Type == namespaces && r.Verb == Delete && immortal(r.Name) {
			return apierrors.NewForbidden(namespaces.Resource().GroupResource(), r.Name, fmt.Errorf("this namespace may not be deleted"))
		}
		if r.Verb != Create || r.Namespace == "" || r.Type.Virtual || r.Subresource != "" {
			return nil
		}
		e, ok, err := r.Lookup.Find(ctx, namespaces, "", r.Namespace)
		if err != nil {
			return err
		}
		if !ok && provision != nil && !r.DryRun {
			if err := provision(ctx, r.Namespace); err != nil {
				return err
			}
			e, ok, err = r.Lookup.Find(ctx, namespaces, "", r.Namespace)
			if err != nil {
				return err
			}
		}
		if !ok {
			return apierrors.NewNotFound(namespaces.Resource().GroupResource(), r.Namespace)
		}
		ns := e.Object.(*corev1.Namespace)
		if ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
			return terminating(r.Type.Resource().GroupResource(), r.Name, r.Namespace)
		}
		r.Require(e)
		return nil
	}}
}

func immortal(name string) bool {
	return name == metav1.NamespaceDefault || name == metav1.NamespaceSystem || name == metav1.NamespacePublic
}

func terminating(gr schema.GroupResource, name, namespace string) error {
	err := apierrors.NewForbidden(gr, name, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", namespace),
		Field:   "metadata.namespace",
	})
	return err
}
