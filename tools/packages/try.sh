#!/bin/sh
# try.sh PYTHON WHEEL: install a wheel as a user does, first without what it depends on, and use it.
set -eu
python=$1 wheel=$2
root=$(realpath "$(dirname "$0")/../..")
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
trap 'exit 1' HUP INT TERM # dash would leave without it
"$python" -m venv "$venv"
cd "$venv" # nothing is imported from the checkout
pip() { "$venv/bin/pip" --disable-pip-version-check --quiet "$@"; }

pip install --no-deps "$wheel"
sh "$root/tools/packages/use.sh" "$venv/bin/hvmctx" "$venv/bin/python"
for file in man/man1/hvmctx.1 man/man1/hvmctx-verify.1 zsh/site-functions/_hvmctx \
    bash-completion/completions/hvmctx fish/vendor_completions.d/hvmctx.fish; do
    test -s "share/$file"
done
if bin/hvmctx to-json "$root/examples/hvm1.save" -o - 2>said; then
    echo "to-json needed no dataclasses-json" && exit 1
fi
grep -q "need dataclasses-json" said

pip install "$wheel"
pip check
bin/hvmctx to-json "$root/examples/hvm1.save" -o context.json
bin/hvmctx from-json context.json -o again.save
cmp again.save "$root/examples/hvm1.save"
echo "$("$venv/bin/python" -VV | head -1): $(basename "$wheel") works"
