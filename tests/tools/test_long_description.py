"""README as PyPI shows it has no link that leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from tests.builders.running import ROOT
from tools.long_description import absolute


def test_all_links_are_absolute() -> None:
    metadata = ProjectMetadata(str(ROOT), PluginManager())
    text = str(metadata.core.readme)
    links = set(re.findall(r"\]\((.+?)\)", text))
    there = f"{metadata.core.urls['Homepage']}/blob/v{metadata.version}/"
    assert links and all(link.startswith(("https:", "#")) for link in links)
    named = {Path(link.removeprefix(there).partition("#")[0]) for link in links if there in link}
    assert Path("docs/scan.md") in named and all((ROOT / path).exists() for path in named)


def test_what_stays() -> None:
    text = "[a](https://x/y) [b](#part) [c](docs/d.md#part) `f(x)` ![e](e.svg) [f](mailto:g@h)"
    assert absolute(text, "https://r", "1") == (
        "[a](https://x/y) [b](#part) [c](https://r/blob/v1/docs/d.md#part) `f(x)` "
        "![e](https://r/blob/v1/e.svg) [f](mailto:g@h)"
    )
