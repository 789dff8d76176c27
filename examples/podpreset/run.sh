#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A preset gives a new pod its environment and volume; what was there before is left alone. Needs a running cluster.
set -eu
cd "$(dirname "$0")"
kubectl=${KUBECTL:-knarr kubectl}
$kubectl apply -f preset.yaml
$kubectl apply -f pod.yaml
$kubectl get pod website -o 'jsonpath={.spec.containers[0].env}{"\n"}{.spec.containers[0].volumeMounts}{"\n"}{.metadata.annotations}{"\n"}'
