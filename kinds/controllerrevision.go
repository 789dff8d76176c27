// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ControllerRevision is apps/v1 ControllerRevision: the state of a StatefulSet or DaemonSet that a rollback restores.
var ControllerRevision = Kind[appsv1.ControllerRevision]{
	Group: "apps", Version: "v1", Name: "ControllerRevision", Plural: "controllerrevisions",
	Served:       controllerRevisionVersions,
	NoGeneration: true,
	Validate: func(r *appsv1.ControllerRevision) field.ErrorList {
		f := &faults{}
		if r.Data.Raw == nil && r.Data.Object == nil {
			f.required(field.NewPath("data"), "data is mandatory")
		}
		f.nonNegative(field.NewPath("revision"), r.Revision)
		return f.list
	},
	ValidateUpdate: func(new, old *appsv1.ControllerRevision) field.ErrorList {
		f := &faults{}
		f.immutable(field.NewPath("data"), new.Data, old.Data)
		return f.list
	},
	Columns: []Column[appsv1.ControllerRevision]{
		nameColumn[appsv1.ControllerRevision](),
		text("Controller", "Whose state it is.", 0, func(r *appsv1.ControllerRevision) string {
			owner := metav1.GetControllerOf(r)
			if owner == nil {
				return none
			}
			gk := schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind()
			return strings.ToLower(gk.String()) + "/" + owner.Name
		}),
		number("Revision", "Its number.", func(r *appsv1.ControllerRevision) int64 { return r.Revision }),
		ageColumn[appsv1.ControllerRevision](),
	},
}
