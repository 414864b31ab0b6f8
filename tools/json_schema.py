"""hvmctx/data/hvmctx.schema.json, out of the declared structures and models."""

from __future__ import annotations

from hvmctx.json_form import schema


def files() -> dict[str, str]:
    return {"hvmctx/data/hvmctx.schema.json": schema.text()}
