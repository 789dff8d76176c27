// SPDX-License-Identifier: Apache-2.0

package kinds

import appsv1 "k8s.io/api/apps/v1"

// Deployment is apps/v1 Deployment.
var Deployment = Kind[appsv1.Deployment]{
	Group: "apps", Version: "v1", Name: "Deployment", Plural: "deployments", Short: []string{"deploy"}, Categories: []string{"all"},
	HasStatus: true,
}
