// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	storagemigrationv1beta1 "k8s.io/api/storagemigration/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StorageVersionMigration is storagemigration.k8s.io/v1 StorageVersionMigration: the wish that all objects of a resource be
// stored anew.
var StorageVersionMigration = Kind[storagemigrationv1.StorageVersionMigration]{
	Group: "storagemigration.k8s.io", Version: "v1", Name: "StorageVersionMigration", Plural: "storageversionmigrations", Cluster: true,
	Validate:       validateMigration,
	ValidateUpdate: validateMigrationUpdate,
	Served:         []Served[storagemigrationv1.StorageVersionMigration]{Alike[storagemigrationv1.StorageVersionMigration, storagemigrationv1beta1.StorageVersionMigration]("storagemigration.k8s.io", "v1beta1", nil, nil)},
	HasStatus:      true, NoGeneration: true,
	Columns: []Column[storagemigrationv1.StorageVersionMigration]{
		nameColumn[storagemigrationv1.StorageVersionMigration](),
		text("Resource", "What is migrated.", 0, func(m *storagemigrationv1.StorageVersionMigration) string { return m.Spec.Resource.String() }),
		text("Status", "Running, Succeeded or Failed.", 0, func(m *storagemigrationv1.StorageVersionMigration) string {
			state := unknown
			for _, c := range m.Status.Conditions {
				if c.Status == metav1.ConditionTrue {
					state = c.Type
				}
			}
			return state
		}),
	},
}
