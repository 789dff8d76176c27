#!/bin/sh
# Two folders seen as one: a union mount of A and B on C, as images' layers are. Needs root; what it mounts is seen by nobody else.
#
# The kernel's overlayfs does what aufs' "dirs=./A:./B" did: where both have a file, the first wins.
set -eu
[ "${1:-}" = inside ] || exec unshare --mount --propagation private "$0" inside
work=$(mktemp -d)
trap 'umount "$work/C" 2>/dev/null || :; rm -rf "$work"' EXIT
cd "$work"
mkdir A B C
echo "from A" >A/a
echo "from A" >A/x
echo "from B" >B/b
echo "from B" >B/x
mount -t overlay -o lowerdir=A:B overlay C
for file in C/*; do echo "$file: $(cat "$file")"; done
