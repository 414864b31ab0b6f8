#!/usr/bin/env python3
"""Make docs/limits.md from hvmctx/limits.py: `limits_doc.py > docs/limits.md`."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from itertools import pairwise

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx import limits
from tools.markdown import table_row

DOCUMENT = "docs/limits.md"
_UNITS = ((40, "T"), (30, "G"), (20, "M"), (10, "K"))
HEAD = """\
# Limits

What an input claims costs nothing; what it holds costs memory and time. So there is a bound for
everything that an input can have much of, which no genuine image reaches. An input that goes
beyond one ends with a line that names it:

    libxc: offset 0x202030: more than 262144 records: --limits stream_records=N allows more

Every command that reads takes `--limits NAME=VALUE,...`, with K, M, G or T for multiples of 1024,
1024^2 and so on, and `--max-size SIZE` in place of `--limits input=SIZE`:

    hvmctx info guest.save --limits stream_records=2M,kept=1G
    hvmctx to-json guest.save --max-size 1G -o guest.json

In the library they are a `Limits`, which `open_image`, `verify`, `HvmContext.from_bytes`,
`loads_json` and others take:

```python
from hvmctx import Limits, open_image

with open_image("guest.save", limits=Limits(stream_records=2 << 20)) as image:
    print(image.limits.kept)
```

What is a fact of Xen's is not here: a record's body has at most 128 MiB, as its readers take no
longer one.

| name | default | what it bounds |
|---|---|---|
"""


def documented() -> Iterator[tuple[str, str]]:
    """(name, its docstring) of every limit, in the order of the declarations."""
    with open(limits.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    (body,) = (
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Limits"
    )
    for node, after in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if not isinstance(after, ast.Expr) or not isinstance(after.value, ast.Constant):
                raise SystemExit(f"{node.target.id} has no docstring")
            yield node.target.id, " ".join(str(after.value.value).split())


def size(value: int) -> str:
    """As `--limits` takes it."""
    for shift, unit in _UNITS:
        if value and value % (1 << shift) == 0:
            return f"{value >> shift}{unit}"
    return str(value)


def document() -> str:
    defaults = limits.DEFAULT.as_dict()
    rows = (table_row(f"`{name}`", size(defaults[name]), text) for name, text in documented())
    return HEAD + "".join(rows)


def files() -> dict[str, str]:
    """The contents of what this makes, by path."""
    return {DOCUMENT: document()}


if __name__ == "__main__":
    sys.stdout.write(document())
