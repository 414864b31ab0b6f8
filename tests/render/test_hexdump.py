"""The lines of hexdump."""

from __future__ import annotations

from hvmctx.render.hexdump import changed_lines, lines

DATA = bytes(range(40))


def read(at: int, size: int) -> bytes:
    return DATA[at : at + size]


def test_lines() -> None:
    assert "".join(lines(read, 2, [(2, 3, "a\x1b"), (5, 20, "b")], most=17)) == (
        "0x00000002  +0x00000   02 03 04                                         a\\x1b\n"
        "0x00000005  +0x00003   05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 14  b\n"
        "0x00000015  +0x00013   15\n"
        "                       ... 3 more bytes\n"
    )


def test_colours_alternate() -> None:
    first, second = lines(read, 0, [(0, 1, "a"), (1, 1, "b")], color=True)
    assert "\x1b[36m00 " in first and "\x1b[33m01 " in second


def test_changed_lines() -> None:
    def other(at: int, size: int) -> bytes:
        return DATA[at - 16 : at - 16 + size].replace(b"\x05", b"\xff")

    parts = [(0, 4, "same"), (4, 4, "changed")]
    assert "".join(changed_lines((read, other), (0, 16), parts)) == (
        "- 0x00000004  +0x00004   04 05 06 07                                      changed\n"
        "+ 0x00000014  +0x00004   04 ff 06 07                                      changed\n"
        "                            ^^\n"
    )
    (_, new) = changed_lines((read, other), (0, 16), parts, color=True)
    assert "04 \x1b[32mff\x1b[0m 06" in new
