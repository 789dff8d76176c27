#!/bin/sh
# A busy loop, held at a fifth of one CPU: what cgroups are for.
#
# usage: cpu.sh IMAGE [COMMAND…]    (without a command the image needs a shell, as busybox has; the daemon is that of
# $KNARR_HOST or $DOCKER_HOST)
set -eu
image=${1:?usage: cpu.sh IMAGE [COMMAND…]}
shift
[ $# -gt 0 ] || set -- sh -c 'while :; do :; done'

id=$(knarr run -d --cpu-period=100000 --cpu-quota=20000 "$image" "$@")
trap 'knarr rm -f "$id" >/dev/null' EXIT

# Where the limit is: the group of a container is /NAME/ID in every hierarchy, NAME being the instance's (knarr).
echo "the container's groups:"
knarr top "$id" -o pid | sed 1d | while read -r pid; do cat "/proc/$pid/cgroup"; done

cpu=/sys/fs/cgroup/cpu
[ -d "$cpu" ] || cpu=/sys/fs/cgroup # cgroup v2 alone
group=$(dirname "$(find "$cpu" -path "*/$id/*" \( -name cpu.cfs_quota_us -o -name cpu.max \) | head -n 1)")
for file in cpu.cfs_period_us cpu.cfs_quota_us cpu.max; do
	[ ! -f "$group/$file" ] || echo "$group/$file: $(cat "$group/$file")"
done

echo "what it gets:"
knarr stats --no-stream "$id"
