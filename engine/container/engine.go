// SPDX-License-Identifier: Apache-2.0

// Package container is a container's life: create, start, stop, exec, attach, logs, events, removal, and the sandboxes
// that pods share.
//
// It owns the containers' folders on disk and joins the parts below it: image (root file systems), network, volume, oci
// and shim (processes). It knows nothing of Docker's wire format, CRI or Kubernetes.
package container
