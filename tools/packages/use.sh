#!/bin/sh
# use.sh HVMCTX PYTHON: try an installed hvmctx, the command and the library, on the images here. The
# text is compared with what Xen 4.17's own tool said of that guest, a moment later.
set -eu
hvmctx=$1 python=$2
root=$(realpath "$(dirname "$0")/../..")
example=$root/examples/hvm1.save
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM # dash would leave without it
cd "$work" # nothing is imported from the checkout
said=$work/said

timeless() { sed '/^HVM save record for domain/d; / tsc 0x/d; / TMR_VAL /d' "$1"; }

"$hvmctx" "$example" > "$said"
timeless "$root/tests/data/images/hvm1.hvmctx.txt" > "$said.genuine"
timeless "$said" | cmp - "$said.genuine"
"$hvmctx" verify "$example" > "$said"
"$hvmctx" info "$example" > "$said"
grep -q "xl, 62469 bytes" "$said"
if "$hvmctx" verify "$root/tests/data/README.md" > "$said" 2>&1; then
    echo "verify takes what is no image" && exit 1
fi
"$python" - "$example" <<'END'
import sys

from hvmctx import HvmContext, Release, open_image, verify, would_restore

with open_image(sys.argv[1]) as image:
    data = image.context.to_bytes()
    assert HvmContext.from_bytes(data).vcpus[0].cpu.rip == image.context.vcpus[0].cpu.rip
    assert would_restore(image, Release("4.17")) and not verify(image)
END
