#!/bin/sh
# A file in a volume is on the host in the volume's folder, and not in the container's root file system: that is why commit
# does not take it along.
#
# usage: volume.sh IMAGE [COMMAND…]    (the command, run in the container, writes /test/text.txt; the daemon is that of $KNARR_HOST
# or $DOCKER_HOST)
set -eu
image=${1:?usage: volume.sh IMAGE [COMMAND…]}
shift
[ $# -gt 0 ] || set -- touch /test/text.txt
id=$(knarr run -d -i -v /test "$image")
trap 'knarr rm -f -v "$id" >/dev/null' EXIT
knarr exec "$id" "$@"
volume=$(knarr inspect -f '{{(index .Mounts 0).Source}}' "$id")
merged=$(knarr inspect -f '{{.GraphDriver.Data.MergedDir}}' "$id")
echo "volume: $(ls "$volume")"
echo "root file system: $(ls "$merged/test")"
