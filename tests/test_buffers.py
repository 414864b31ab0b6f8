from __future__ import annotations

from array import array

from hvmctx.buffers import flat, utf8


def test_flat() -> None:
    data = bytearray(range(12))
    view = memoryview(data)
    assert flat(view) is view and flat(data) is data
    assert flat(memoryview(array("I", [1, 2]))) == b"\1\0\0\0\2\0\0\0"
    assert flat(view[::-1]) == bytes(reversed(data))
    assert flat(view.cast("B", (3, 4))) == bytes(data)


def test_utf8() -> None:
    assert utf8("ä\udc80") == b"\xc3\xa4\x80" and utf8("\ud800<") == b"?<"
