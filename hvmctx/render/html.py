"""Pages for a browser, from the templates in `templates/`: one file each, that loads nothing and
runs nothing but at most its own search, with a policy in it that says so to the browser.

`base.html` has what all of them share: the style (`style.css`), the policy, the macros are in
`parts.html`. Values are escaped twice over: for HTML, and as `messages.printable` does.
"""

from __future__ import annotations

import hashlib
import importlib
from base64 import b64encode
from functools import cache
from pathlib import Path

from hvmctx.errors import UsageError
from hvmctx.messages import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["check", "page"]

_TEMPLATES = Path(__file__).parent / "templates"


def check() -> None:
    """Raises UsageError if Jinja2 is not installed: before work that may take long."""
    try:
        importlib.import_module("jinja2")
    except ImportError:
        raise UsageError("HTML needs `pip install hvmctx[report]`") from None


def page(template: str, *, searchable: bool = False, **values: object) -> str:
    """The page of a template; one that is `searchable` has a box for it (`search.js`). Raises
    UsageError if Jinja2 is not installed."""
    check()
    markup = importlib.import_module("markupsafe").Markup
    parts = {"style": _part("style.css"), "script": _part("search.js") if searchable else ""}
    text: str = (
        _environment()
        .get_template(template)
        .render(
            **{name: markup(part) for name, part in parts.items()},
            **{f"{name}_digest": _digest(part) for name, part in parts.items()},
            **values,
        )
    )
    return text


@cache
def _part(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _digest(part: str) -> str:
    """By which a policy allows it."""
    return b64encode(hashlib.sha256(part.encode()).digest()).decode()


@cache
def _environment() -> Any:
    """Templates are compiled once."""
    jinja2 = importlib.import_module("jinja2")
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_seen,
    )  # fmt: skip
    made.filters["number"] = _number
    return made


def _seen(value: Any) -> Any:
    """What a template shows: text, as it may be shown. Markup is a template's own."""
    return printable(value) if type(value) is str else value


def _number(value: int | str) -> str:
    """With thin spaces, which a browser does not break: markup, as `_seen` would escape them. What
    is no number is as it is.

    >>> ascii(_number(1234567))
    "'1\\\\u202f234\\\\u202f567'"
    """
    if isinstance(value, str):
        return value
    spaced: str = importlib.import_module("markupsafe").Markup(f"{value:,}".replace(",", "\u202f"))
    return spaced
