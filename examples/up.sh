#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What `make up` does once the programs are built: a one-node cluster, the example image from its Dockerfile, a Deployment
# of it behind a Service, and its answer. Everything here is what a person would type.
set -eu
cd "$(dirname "$0")/.."
knarr=bin/knarr

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

step "knarr up"
$knarr up

step "knarr build -t web examples/web"
$knarr build -t web examples/web

step "knarr kubectl apply -f examples/web/web.yaml"
$knarr kubectl apply -f examples/web/web.yaml
$knarr kubectl rollout status deployment/web --timeout=60s
$knarr kubectl get deployment,pods,service -l app=web -o wide

address=$($knarr kubectl get service web -o 'jsonpath={.spec.clusterIP}')
step "http://$address through the Service"
examples/web/web get -wait 10s "http://$address"

cat <<EOF

It runs. Put bin/ on your PATH and try:

  knarr kubectl get pods -o wide
  knarr kubectl logs -l app=web
  knarr kubectl exec deploy/web -- /web id
  knarr kubectl scale deployment web --replicas=5
  knarr run --rm -p 8080:80 web        # the same image as a plain container
  make down                            # undo all of it
EOF
