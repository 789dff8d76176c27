#!/bin/sh
# Builds the image of the Dockerfile beside this file, runs it and shows its answer.
set -eu
knarr=${KNARR:-knarr}
here=$(dirname "$0")
$knarr image inspect python:2.7-slim >/dev/null 2>&1 || "$here/base.sh"
$knarr build -t helloworld "$here"
id=$($knarr run -d -p 127.0.0.1::80 helloworld)
trap '$knarr rm -f $id >/dev/null' EXIT
at=$($knarr port "$id" 80 | head -1)
for _ in $(seq 100); do
	if $knarr exec "$id" python -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1/").read().decode())' 2>/dev/null; then
		echo "It answers on http://$at"
		exit
	fi
	sleep 0.1
done
$knarr logs "$id" >&2
exit 1
