"""share/hvmctx/: the layouts for other tools, as `hvmctx schema` prints them, for those who take
them from the repository."""

from __future__ import annotations

from hvmctx.layouts import c_header, imhex, kaitai

FOLDER = "share/hvmctx"


def files() -> dict[str, str]:
    """What `make generate` writes."""
    return {
        f"{FOLDER}/hvmctx.h": c_header.text(),
        f"{FOLDER}/{kaitai.NAME}.ksy": kaitai.text(),
        f"{FOLDER}/{kaitai.NAME}.hexpat": imhex.text(),
    }
