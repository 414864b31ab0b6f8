"""docs/reference/: which names the reference has. mkdocstrings puts in what their docstrings say,
when the site is built."""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules

import hvmctx
from tools.markdown import table_row

FRONT = "front-page"
ROOMS = sorted(
    each.name for each in iter_modules(hvmctx.__path__) if each.ispkg and each.name != "commands"
)
ALONE = ("errors", "findings", "limits", "messages")
PAGES = {FRONT: "from hvmctx import ...", **{room: f"hvmctx.{room}" for room in ROOMS},
         "others": "errors, findings, limits"}  # fmt: skip
"""Name of a page -> its title."""
INDEX = """\
# The library

[The front page](front-page.md) is what `from hvmctx import ...` gives; most programs need nothing
else. Below it each room of the package has a page; [how they work together](../architecture.md).

| page | what is there |
|---|---|
"""


ROOM = """\
# hvmctx.{room}

::: hvmctx.{room}
    options:
        show_root_heading: false
        show_root_toc_entry: false
        show_submodules: true
"""


def _line(module: str) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(import_module(module)) or "").split())
    return text.partition(". ")[0].removesuffix(".").partition(": ")[0]


def _front() -> str:
    """Each name of the front page, with a link to where it is."""
    text = f"# {PAGES[FRONT]}\n\n{inspect.getdoc(hvmctx)}\n\n| name | what it is |\n|---|---|\n"
    for name in hvmctx.__all__:
        thing = getattr(hvmctx, name)
        said = " ".join((inspect.getdoc(getattr(thing, "__wrapped__", thing)) or "").split())
        first = said.partition(". ")[0].removesuffix(".").replace("|", "\\|")
        text += table_row(f"[`{name}`][hvmctx.{hvmctx._WHERE[name]}.{name}]", first)
    return text


def files() -> dict[str, str]:
    """What `make generate` writes."""
    pages = {FRONT: _front()}
    pages.update((room, ROOM.format(room=room)) for room in ROOMS)
    alone = "".join(f"\n::: hvmctx.{name}\n" for name in ALONE)
    pages["others"] = f"# The ground floor\n{alone}"
    rows = "".join(f"| [{title}]({name}.md) | {_about(name)} |\n" for name, title in PAGES.items())
    made = {f"docs/reference/{name}.md": text for name, text in pages.items()}
    return {"docs/reference/index.md": INDEX + rows, **made}


def _about(name: str) -> str:
    if name in ROOMS:
        return _line(f"hvmctx.{name}")
    return "the names that most programs need" if name == FRONT else "what all others stand on"
