#!/usr/bin/env bash
# deb.sh: the Debian package into dist/, out of the sdist there (`make packages`), looked at by
# lintian, and installed in a clean Debian of DEBIAN (a suite, `bookworm` unless told), which has
# Python and nothing else.
set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin # the Python of Debian
cd "$(dirname "$0")/../.."
suite=${DEBIAN:-bookworm}
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' hvmctx/revision.py)
sdist=dist/hvmctx-$version.tar.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$sdist" "$work/xen-hvmctx-py_$version.orig.tar.gz"
tar -xzf "$sdist" -C "$work"
cp -r debian "$work/hvmctx-$version/"
(cd "$work/hvmctx-$version" && dpkg-buildpackage -us -uc > ../log 2>&1) || { cat "$work/log"; exit 1; }
lintian --fail-on error,warning,info,pedantic --display-info --pedantic "$work"/*.changes
cp "$work"/*.deb dist/
deb=$(basename "$work"/*.deb)
[ "$(dpkg-deb -f "dist/$deb" Depends)" = "python3:any" ]

if [ "$(id -u)" != 0 ]; then
    echo "$deb was not tried in a clean root of Debian, which only root can enter"
    exit 0
fi
mirror=${MIRROR:-http://deb.debian.org/debian}
if ! { mmdebstrap --quiet --variant=essential --include=python3 "$suite" "$work/root" "$mirror"; } \
    2> "$work/log"; then
    echo "no clean root of Debian: $(tail -1 "$work/log"); $deb was not tried in one"
    exit 0
fi
mkdir -p "$work/root/src/tests/data/images" "$work/root/src/tools/packages" "$work/root/src/examples"
cp "dist/$deb" "$work/root/"
cp examples/hvm1.save "$work/root/src/examples/"
cp tests/data/images/hvm1.hvmctx.txt "$work/root/src/tests/data/images/"
cp tests/data/README.md "$work/root/src/tests/data/"
cp tools/packages/use.sh "$work/root/src/tools/packages/"
chroot "$work/root" sh -euc "
    dpkg -i $deb > /log 2>&1 || { cat /log; exit 1; }
    sh /src/tools/packages/use.sh hvmctx python3
    dpkg --purge xen-hvmctx-py > /log
    test ! -e /usr/lib/python3/dist-packages/hvmctx
"
echo "Debian $suite: $deb works, and goes without a trace"
