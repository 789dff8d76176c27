// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// ClusterTrustBundle is certificates.k8s.io/v1 ClusterTrustBundle: root certificates that pods may mount. Names of bundles
// of a signer begin with the signer's, so they hold colons.
var ClusterTrustBundle = Kind[certificatesv1.ClusterTrustBundle]{
	Group: "certificates.k8s.io", Version: "v1", Name: "ClusterTrustBundle", Plural: "clustertrustbundles", Cluster: true,
	Validate:       validateTrustBundle,
	ValidateUpdate: validateTrustBundleUpdate,
	Served:         trustBundleVersions,
	NoGeneration:   true,
	ValidateName:   pathSegment,
	Fields: func(b *certificatesv1.ClusterTrustBundle) fields.Set {
		return fields.Set{"spec.signerName": b.Spec.SignerName}
	},
	Columns: []Column[certificatesv1.ClusterTrustBundle]{
		nameColumn[certificatesv1.ClusterTrustBundle](),
		text("SignerName", "Whose roots they are.", 0, func(b *certificatesv1.ClusterTrustBundle) string { return orNone(b.Spec.SignerName) }),
	},
}
