#!/bin/sh
# Makes the image python:2.7-slim, which the Dockerfile beside this file names, of Debian's Python 3, pip and Flask: no registry
# is needed. It unpacks packages without installing them, so no script of theirs runs here. Exit code 77: it cannot be done here.
set -eu
knarr=${KNARR:-knarr}
skip() { echo "skipped: $*" >&2; exit 77; }
for tool in apt-get dpkg-deb; do command -v $tool >/dev/null || skip "needs Debian's $tool"; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debs/partial" "$work/root/usr/bin" "$work/root/usr/sbin" "$work/root/usr/lib" "$work/root/usr/lib64" "$work/root/tmp" "$work/root/etc"
for d in bin sbin lib lib64; do ln -s usr/$d "$work/root/$d"; done
: >"$work/status"
# Against an empty list of installed packages apt names all that Python needs, the C library included.
apt-get -qq -o Dir::State::status="$work/status" -o Dir::Cache::archives="$work/debs" -o APT::Sandbox::User=root -o Debug::NoLocking=1 \
	--no-install-recommends --download-only -y install python3-pip python3-flask dash coreutils >"$work/log" 2>&1 || skip "apt-get cannot download: $(tail -1 "$work/log")"
for deb in "$work"/debs/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -C "$work/root" --keep-directory-symlink -x; done
ln -sf python3 "$work/root/usr/bin/python"
ln -sf dash "$work/root/usr/bin/sh"
rm -f "$work"/root/usr/lib/python3*/EXTERNALLY-MANAGED
rm -rf "$work"/root/usr/share/doc "$work"/root/usr/share/man "$work"/root/usr/share/locale
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$work/root/etc/passwd"
tar -C "$work/root" -c . | $knarr import --change 'CMD ["python"]' - python:2.7-slim
