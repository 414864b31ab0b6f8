"""What is inside of device models' files, as text."""

from __future__ import annotations

import pytest

from hvmctx.image.image import open_image
from hvmctx.render.decoded import emulator_lines
from hvmctx.render.text import TextDialect
from tests.builders.emulators import MOUSE, VMPORT, with_model
from tests.builders.samples import context_bytes


@pytest.mark.parametrize(
    ("payload", "show_all", "line"),
    [
        (VMPORT, True, "    VMPORT: version 0xabcd0001"),
        (context_bytes(), False, "Entry 1: type 2 instance 0"),
        (MOUSE, True, "    vmmouse: queue_size 1024, queue zeros, nb_queue 0, status 65535"),
        (MOUSE, False, ""),
        (b"unknown", True, ""),
    ],
    ids=["vmport", "context", "all of QEMU's", "QEMU's", "unknown"],
)
def test_lines(payload: bytes, show_all: bool, line: str) -> None:
    with open_image(with_model(payload)) as image:
        text = "".join(emulator_lines(image, TextDialect(show_all=show_all)))
    assert text.startswith("EMULATOR_CONTEXT: qemu") == bool(line) and line in text
    assert not text or text.endswith("\n")
