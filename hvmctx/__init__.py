"""hvmctx reads, checks, edits and writes what Xen saves of a guest.

The names below are imported when they are first used, so that `import hvmctx` costs
nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "HvmContext": "hvmctx.context.hvm_context",
    "Record": "hvmctx.context.record",
    "Image": "hvmctx.image.image",
    "open_image": "hvmctx.image.image",
    "Release": "hvmctx.abi.releases",
    "would_restore": "hvmctx.restore.image",
    "HvmctxError": "hvmctx.errors",
    "FormatError": "hvmctx.errors",
    "RestoreRefused": "hvmctx.errors",
}
__all__ = [
    "FormatError",
    "HvmContext",
    "HvmctxError",
    "Image",
    "Record",
    "Release",
    "RestoreRefused",
    "open_image",
    "would_restore",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hvmctx' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
