#!/bin/sh
# What is written to a volume is in the volume, and neither in the container's root on the host nor in a commit.
#
# usage: volume.sh IMAGE [COMMAND…]    (without a command the image needs a shell, as busybox has; the daemon is that of
# $KNARR_HOST or $DOCKER_HOST, and this is its machine)
set -eu
image=${1:?usage: volume.sh IMAGE [COMMAND…]}
shift
[ $# -gt 0 ] || set -- sh -c 'touch /test/text.txt; sleep 60'

id=$(knarr run -d -v /test "$image" "$@")
committed=volume-example-$$
trap 'knarr rm -f -v "$id" >/dev/null; knarr rmi "$committed" >/dev/null 2>&1 || true' EXIT

volume=$(knarr inspect -f '{{(index .Mounts 0).Name}}' "$id")
data=$(knarr volume inspect -f '{{.Mountpoint}}' "$volume")
tries=0
until [ -e "$data/text.txt" ] || [ $tries -ge 100 ]; do tries=$((tries + 1)); sleep 0.05; done

echo "the volumes:"
knarr volume ls -q -f name="$volume"
echo "in the volume, $data:"
ls "$data"

merged=$(knarr inspect -f '{{.GraphDriver.Data.MergedDir}}' "$id")
echo "at its place in the container's root, $merged/test: $(find "$merged/test" -mindepth 1 | wc -l) files"

knarr commit "$id" "$committed" >/dev/null
copy=$(knarr create "$committed" true)
echo "in an image of the container: $(knarr export "$copy" | tar -t | grep -c text.txt || true) files"
knarr rm "$copy" >/dev/null
