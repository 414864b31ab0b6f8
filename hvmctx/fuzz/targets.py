"""Every target of the fuzzer, by the name that `hvmctx fuzz` takes."""

from __future__ import annotations

from hvmctx.fuzz.target import Target
from hvmctx.fuzz.target_context import CONTEXT
from hvmctx.fuzz.target_edit import EDIT
from hvmctx.fuzz.target_json import JSON
from hvmctx.fuzz.target_judge import JUDGE
from hvmctx.fuzz.target_stream import STREAM
from hvmctx.fuzz.target_strict import STRICT
from hvmctx.fuzz.target_strip import STRIP
from hvmctx.fuzz.target_text import TEXT
from hvmctx.fuzz.target_vmport import VMPORT

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (CONTEXT, TEXT, STRICT, STREAM, JUDGE, STRIP, VMPORT, JSON, EDIT)
}
