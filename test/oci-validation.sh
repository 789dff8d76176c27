#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the OCI runtime validation programs (github.com/opencontainers/runtime-tools, validation/*) with bin/knarr-shim and with
# crun, and fails when a program does worse with ours. Needs root, about five minutes, and the module proxy for the first run.
#
#   test/oci-validation.sh [PROGRAM...]
#
# crun refuses hybrid cgroups, so it runs in a mount namespace of its own without the v2 tree.
set -u
version=v0.9.1-0.20250523060157-0ea5ed0382a2
shim=$(cd "$(dirname "$0")/.." && pwd)/bin/knarr-shim
skip() { echo "SKIP oci-validation: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "needs root"
[ -x "$shim" ] || skip "bin/knarr-shim is not built: make build"
command -v crun >/dev/null || skip "crun, the reference, is not installed (apt-get install crun)"

work=$(mktemp -d); trap 'clean; rm -rf "$work"' EXIT
clean() { # what the programs themselves leave behind
  for g in cgrouptest testdir; do
    find /sys/fs/cgroup/*/$g /sys/fs/cgroup/$g -depth -type d -exec rmdir {} \; 2>/dev/null
  done
}
module=$(cd "$work" && go mod download -json "github.com/opencontainers/runtime-tools@$version" | sed -n 's/.*"Dir": "\(.*\)",*/\1/p')
[ -n "$module" ] || skip "the module runtime-tools $version cannot be had"
cp -r "$module" "$work/src" && chmod -R u+w "$work/src" && cd "$work/src" || exit 1
export CGO_ENABLED=0 GOFLAGS="-mod=mod -trimpath" TMPDIR="$work/tmp"
mkdir "$work/tmp" "$work/programs"
go build -o "$work/programs/" ./validation/... && go build -o runtimetest ./cmd/runtimetest || skip "the programs do not build"

# one RUNTIME LOG PROGRAM: "ok notok" of one program. Skipped checks count as passed, as TAP has it.
one() {
  RUNTIME=$1 timeout -k 2 40 "$work/programs/$3" </dev/null >"$2" 2>&1
  echo "$(grep -c '^ok' "$2") $(grep -c '^not ok' "$2")"
  clean
}
export -f one clean; export work
reference() { unshare -m --propagation private bash -c 'mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; one crun "$1" "$2"' - "$1" "$2"; }

worse=0
printf '| %-32s | %-14s | %-14s |\n' program crun knarr-shim; echo "|---|---|---|"
for p in ${*:-$(ls "$work/programs")}; do
  read -r cok cbad < <(reference "$work/crun.log" "$p")
  read -r kok kbad < <(one "$shim" "$work/knarr.log" "$p")
  mark=
  if [ "$kok" -lt "$cok" ] || { [ "$cok" -gt 0 ] && [ "$kbad" -gt "$cbad" ]; }; then
    worse=$((worse + 1)); mark=" worse"
    grep -A8 '^not ok' "$work/knarr.log" >&2; tail -3 "$work/knarr.log" >&2
  fi
  printf '| %-32s | %-14s | %-14s |\n' "$p" "$cok ok, $cbad not" "$kok ok, $kbad not$mark"
done
[ $worse = 0 ] || { echo "oci-validation: $worse programs do worse than with crun"; exit 1; }
