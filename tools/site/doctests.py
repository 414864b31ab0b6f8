"""Docstrings as pages have them (an extension of griffe's, see mkdocs.yml): their examples are
blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts a fence around what starts with a prompt, up to the next empty line."""

    def on_object(self, *, obj: Any, **_: object) -> None:
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", text)
