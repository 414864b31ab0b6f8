"""The package of docs/handlers.md, installed: on a path that a Python of its own, or
`sys.path`, can be given."""

from __future__ import annotations

import re
from pathlib import Path

from tests.builders.samples import ROOT


def blocks() -> tuple[str, str]:
    """The module, and its pyproject.toml, as the page has them."""
    page = (ROOT / "docs" / "handlers.md").read_text()
    module, project = re.findall(r"```(?:python|toml)\n(.*?)```", page, re.DOTALL)
    return module, project


def install(place: Path, *more: str) -> Path:
    """What pip leaves of it in a folder; `more` are lines for its entry points."""
    module, project = blocks()
    points = re.findall(r'^"([\w:]+)" = "([\w:]+)"$', project, re.MULTILINE)
    (place / "demo_handler.py").write_text(module)
    info = place / "demo_handler-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-handler\nVersion: 1\n")
    (info / "RECORD").write_text("demo_handler.py,,\n")
    lines = [f"{name} = {value}" for name, value in points]
    (info / "entry_points.txt").write_text("\n".join(["[hvmctx.handlers]", *lines, *more, ""]))
    return place
