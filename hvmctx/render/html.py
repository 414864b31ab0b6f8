"""Pages for a browser, from the templates in `templates/`: one file each, that loads nothing and
runs nothing, with a policy in it that says so to the browser.

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

__all__ = ["page"]

_TEMPLATES = Path(__file__).parent / "templates"


def page(template: str, **values: object) -> str:
    """The page of a template. Raises UsageError if Jinja2 is not installed."""
    try:
        importlib.import_module("jinja2")
    except ImportError:
        raise UsageError("HTML needs `pip install hvmctx[report]`") from None
    style = (_TEMPLATES / "style.css").read_text("utf-8")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    markup = importlib.import_module("markupsafe").Markup
    text: str = (
        _environment()
        .get_template(template)
        .render(style=markup(style), style_digest=digest, **values)
    )
    return text


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


def _number(value: int) -> str:
    """With thin spaces, which a browser does not break.

    >>> ascii(_number(1234567))
    "'1\\\\u202f234\\\\u202f567'"
    """
    return f"{value:,}".replace(",", "\u202f")
