#!/bin/sh
# Containers on a network of their own find each other by name; one that is connected later does so at once, and a port that is
# published on 127.0.0.1 is reached from this machine alone.
#
# usage: network.sh IMAGE SERVE… -- FETCH…    IMAGE with the command that serves HTTP on port 80, and the one that fetches the
# address behind it: network.sh busybox httpd -f -h /etc -- wget -qO-
set -eu
image=${1:?usage: network.sh IMAGE SERVE… -- FETCH…}
shift
serve=
while [ "$1" != -- ]; do serve="$serve $1"; shift; done
shift
fetch=$1
shift
net=network-example-$$

knarr network create "$net" >/dev/null
# shellcheck disable=SC2086 # words of a command
web=$(knarr run -d --network "$net" --network-alias web -p 127.0.0.1::80 "$image" $serve)
trap 'knarr rm -f "$web" ${late:-} >/dev/null; knarr network rm "$net" >/dev/null' EXIT

echo "by name: $(knarr run --rm --entrypoint "$fetch" --network "$net" "$image" "$@" http://web/)"
echo "published: $(knarr port "$web" 80)"

# shellcheck disable=SC2086
late=$(knarr run -d "$image" $serve)
knarr network connect --link "$web:friend" "$net" "$late"
echo "connected later: $(knarr exec "$late" "$fetch" "$@" http://web/)"
echo "by its link: $(knarr exec "$late" "$fetch" "$@" http://friend/)"
