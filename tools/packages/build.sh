#!/usr/bin/env bash
# build.sh: sdist and wheel into dist/, looked at, and installed for every CPython that is here, of
# those that hvmctx knows. VENV has the group `packages` and what the suite needs; TESTS are those that
# the sdist is tried with (all of them: TESTS=tests).
set -euo pipefail
cd "$(dirname "$0")/../.."
VENV=$(realpath "${VENV:-.venv}")
tools=$PWD/tools/packages
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The same commit gives the same bytes.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' hvmctx/revision.py)
rm -rf "dist/hvmctx-$version.tar.gz" "dist/hvmctx-$version-py3-none-any.whl"
"$VENV/bin/python" -m build --no-isolation --outdir dist . > "$work/log" || { cat "$work/log"; exit 1; }
sdist=$PWD/dist/hvmctx-$version.tar.gz wheel=$PWD/dist/hvmctx-$version-py3-none-any.whl

# The sdist is all that is needed: it builds the same again, and has its tests.
tar -xzf "$sdist" -C "$work"
cd "$work/hvmctx-$version"
"$VENV/bin/python" -m build --no-isolation --outdir "$work/again" . > "$work/log"
cmp "$sdist" "$work/again/$(basename "$sdist")"
cmp "$wheel" "$work/again/$(basename "$wheel")"
"$VENV/bin/python" -m pytest -q -p no:cacheprovider ${TESTS:-tests/context} | tail -1
cd "$OLDPWD"

"$VENV/bin/check-wheel-contents" "$wheel"
"$VENV/bin/twine" check --strict "$sdist" "$wheel"

for minor in 10 11 12 13 14; do
    found=
    for python in "python3.$minor" "$HOME"/.pyenv/versions/3."$minor".*/bin/python3; do
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            sh "$tools/try.sh" "$python" "$wheel"
            found=yes
            break
        fi
    done
    [ -n "$found" ] || echo "CPython 3.$minor: not here, not tried"
done
