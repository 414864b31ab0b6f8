"""README as PyPI shows it: its links lead to the repository, to the version that is published.
hatchling runs this when it builds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["Readme", "absolute"]

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)")


def absolute(text: str, repository: str, version: str) -> str:
    """Markdown whose relative links start with the address of a version's files."""
    return _LINK.sub(f"{repository}/blob/v{version}/", text)


class Readme(MetadataHookInterface):
    """Gives the metadata their `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text("utf-8")
        text = absolute(text, metadata["urls"]["Homepage"], metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
