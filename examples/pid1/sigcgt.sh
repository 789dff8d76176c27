#!/bin/sh
# Which signals can reach PID 1 of a container: those that it handles, and no other that comes from inside, SIGKILL included.
#
# usage: sigcgt.sh IMAGE [COMMAND…]    (the daemon is that of $KNARR_HOST or $DOCKER_HOST)
set -eu
image=${1:?usage: sigcgt.sh IMAGE [COMMAND…]}
shift
id=$(knarr run -d -i "$image" "$@")
trap 'knarr rm -f "$id" >/dev/null' EXIT
pid=$(knarr inspect -f '{{.State.Pid}}' "$id")
# A process that has just begun has not said yet what it handles: it is given a moment.
tries=50
while mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status"); [ "$mask" = 0000000000000000 ] && [ $tries -gt 0 ]; do
	tries=$((tries - 1))
	sleep 0.1
done
echo "SigCgt: $mask"
# Bit n-1 stands for signal n. A shell's numbers have a sign, so each half is looked at alone.
high=$((0x${mask%????????})) low=$((0x${mask#????????})) n=1
while [ $n -le 64 ]; do
	if [ $n -le 32 ]; then bit=$(((low >> (n - 1)) & 1)); else bit=$(((high >> (n - 33)) & 1)); fi
	[ $bit = 0 ] || echo "handles $n$(kill -l $n 2>/dev/null | sed 's/^/ SIG/')"
	n=$((n + 1))
done
