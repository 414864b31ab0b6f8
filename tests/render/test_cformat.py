"""Against the C library's own printf."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvmctx.render import dialects
from hvmctx.render.cformat import CFormat
from tests.builders.examples import few

LIBC = ctypes.CDLL(None)
FORMATS = sorted(
    {
        text
        for by_release in dialects.LINES.values()
        for shown in by_release.values()
        for text, _ in shown
    }
    | {text for shown in dialects.FPU_LINES.values() for text, _ in shown}
    | {text for shown in dialects.EXTRA_LINES.values() for text, _ in shown}
)


def by_c(text: str, values: tuple[int, ...]) -> str:
    """snprintf, every integer passed as the 64 bits that it is."""
    wide = text.replace("%%", "\0")
    for conversion in "xiu":
        pieces = wide.split("%")
        for at, piece in enumerate(pieces[1:], 1):
            end = next(i for i, c in enumerate(piece) if c.isalpha())
            if piece[end] == conversion:
                pieces[at] = piece[:end] + "ll" + piece[end:]
        wide = "%".join(pieces)
    buffer = ctypes.create_string_buffer(4096)
    arguments = [ctypes.c_ulonglong(value) for value in values]
    LIBC.snprintf(buffer, len(buffer), wide.replace("\0", "%%").encode(), *arguments)
    return buffer.value.decode()


def conversions(text: str) -> int:
    return text.replace("%%", "").count("%")


@few
@given(st.data())
@pytest.mark.parametrize("text", [text for text in FORMATS if "%s" not in text])
def test_every_format_of_the_tables(text: str, data: st.DataObject) -> None:
    number = st.integers(0, (1 << 63) - 1) | st.sampled_from([0, 1, 0xFFFF])
    values = tuple(data.draw(number) for _ in range(conversions(text)))
    assert CFormat(text)(values) == by_c(text, values)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 20), st.integers(0, 20))
@example(0, 6, 4)
@example(0, 18, 16)
def test_alternate_form_with_width_and_precision(value: int, width: int, precision: int) -> None:
    text = f"a %#{width or ''}.{precision}x b"
    assert CFormat(text)((value,)) == by_c(text, (value,)) or (value, precision) == (0, 0)


def test_words() -> None:
    assert CFormat("%s %#x %%")(("on", 0)) == "on 0 %"
    assert CFormat("100%%")(()) == "100%"
