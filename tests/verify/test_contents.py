"""Findings inside of device models' files, and those of other packages."""

from __future__ import annotations

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.image import handlers
from hvmctx.image.image import open_image
from hvmctx.verify.contents import findings_of
from hvmctx.verify.views import verify
from tests.builders.emulators import MOUSE, VMPORT, with_model
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.vmport import sent


@pytest.mark.parametrize(
    ("payload", "strict", "rules"),
    [
        (MOUSE, True, set()),
        (VMPORT, False, set()),
        (sent("send", 9, 8), False, {"vmport-send_buf-source"}),
        (context_bytes(), False, set()),
        (context_bytes()[:-9], False, {"stream-damaged"}),
        (b"unknown", True, set()),
        (b"", True, set()),
    ],
)
def test_inside(payload: bytes, strict: bool, rules: set[str]) -> None:
    data = with_model(payload)
    at = data.index(payload, 0x9000) if payload else 0
    with open_image(data) as image:
        found = findings_of(image, None, strict=strict)
        view = verify(image, "strict" if strict else "restore")
    assert {finding.rule for finding in found} == rules
    assert rules <= {finding.rule for finding in view}
    for finding in found:
        assert finding.record.startswith("EMULATOR_CONTEXT")
        assert at <= finding.offset <= at + len(payload)


def test_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(handlers.Handler):
        def decode(self, body: bytes | memoryview) -> int:
            return len(body)

        def check(self, value: int) -> list[tuple[str, str, str]]:
            return [("grave", "odd-length", f"{value} bytes")] if value % 2 else []

    monkeypatch.setattr(handlers, "_handlers", {("context", 99): Odd(), ("context", 98): len})
    first, *others = HvmContext.from_bytes(context_bytes()).entries
    odd = [Record(99, 3, b"abc"), Record(98, 0), Record(99, 0, b"ab")]
    context = HvmContext([first, *odd, *others])
    found = [f for f in verify(context.to_bytes()) if f.rule == "odd-length"]
    assert [(f.severity, f.record, f.offset) for f in found] == [("error", "type 99/3", 32)]
    handlers.register("context", 99, lambda body: 1 // 0)
    found = [f for f in verify(context.to_bytes()) if f.rule == "stream-damaged"]
    assert len(found) == 2 and "ZeroDivisionError" in found[0].text
    assert not verify(EXAMPLE)
