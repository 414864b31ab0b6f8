from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FormatError, LengthError, UsageError
from hvmctx.image import handlers
from hvmctx.image.image import open_image
from hvmctx.json_form.document import dumps_json
from hvmctx.stream import libxc
from hvmctx.stream.qemu import DeviceModelState
from hvmctx.stream.reader import LIBXC, LIBXL, StreamRecord
from tests.builders.samples import EXAMPLE, context_bytes

ALL = [(LIBXC, n) for n in streams.LIBXC_RECORDS] + [(LIBXL, n) for n in streams.LIBXL_RECORDS]


@pytest.fixture
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_handlers", dict(handlers._handlers))
    monkeypatch.setattr(handlers, "_announced", None)


@given(st.sampled_from(ALL), st.binary(max_size=60))
def test_any_body_of_any_type(key: tuple[str, int], body: bytes) -> None:
    record = StreamRecord(*key, len(body), 1000)
    try:
        handlers.decode(record, body)
    except FormatError as error:
        assert 1008 <= error.offset <= 1008 + len(body)
        assert error.record


def test_the_first_handlers() -> None:
    context = handlers.decode(StreamRecord(LIBXC, streams.LIBXC_HVM_CONTEXT, 0, 0), b"")
    assert isinstance(context, HvmContext)
    info = handlers.decode(
        StreamRecord(LIBXC, streams.LIBXC_X86_PV_INFO, 8, 0), b"\x08\x04" + bytes(6)
    )
    assert isinstance(info, libxc.PvInfo)


def test_records_without_a_handler_are_their_body(empty_registry: None) -> None:
    assert handlers.decode(StreamRecord(LIBXC, 0x55, 2, 0), b"ab") == b"ab"


def test_register(empty_registry: None) -> None:
    handlers.register(LIBXC, 0x20, bytes.hex)
    assert handlers.decode(StreamRecord(LIBXC, 0x20, 2, 0), b"ab") == "6162"


class FakeEntry:
    value = "package:thing"

    def __init__(self, name: str, handler: Any) -> None:
        self.name = name
        self._handler = handler

    def load(self) -> Any:
        if isinstance(self._handler, Exception):
            raise self._handler
        return self._handler


@pytest.fixture
def announce(empty_registry: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    def call(*entries: FakeEntry) -> list[str]:
        asked: list[str] = []

        def entry_points(group: str) -> tuple[FakeEntry, ...]:
            asked.append(group)
            return entries

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        return asked

    return call


def test_entry_points(announce: Callable[..., list[str]]) -> None:
    """For new types, and for those that have a model."""
    asked = announce(FakeEntry("libxc:0x20", bytes.hex), FakeEntry("libxc:8", len))
    assert handlers.decode(StreamRecord(LIBXC, 0x20, 2, 0), b"ab") == "6162"
    assert handlers.decode(StreamRecord(LIBXC, 0x21, 2, 0), b"ab") == b"ab"
    assert handlers.decode(StreamRecord(LIBXC, 8, 2, 0), b"ab") == 2
    assert isinstance(handlers.parse(StreamRecord(LIBXC, 8, 24, 0), bytes(24)), libxc.TscInfo)
    assert asked == ["hvmctx.handlers"], "looked up once"


@pytest.mark.parametrize(
    ("handler", "reason"), [(ImportError("gone"), "ImportError: gone"), (5, "5 cannot be called")]
)
def test_an_entry_point_that_does_not_load_spoils_no_other(
    handler: Any, reason: str, announce: Callable[..., list[str]]
) -> None:
    announce(FakeEntry("libxc:0x20", handler), FakeEntry("libxc:0x21", bytes.hex))
    for _ in range(2):  # it is said every time
        with pytest.raises(UsageError, match=f"entry point 'libxc:0x20'.*: {reason}"):
            handlers.decode(StreamRecord(LIBXC, 0x20, 2, 0), b"ab")
        assert handlers.decode(StreamRecord(LIBXC, 0x21, 2, 0), b"ab") == "6162"


def test_an_entry_point_of_an_odd_name(
    announce: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that is safe to show, and no warning of Python's, which `-W error` makes an
    exception."""
    announce(FakeEntry("non\x1bsense", len), FakeEntry("libxc:0x20", len))
    assert handlers.decode(StreamRecord(LIBXC, 0x20, 2, 0), b"ab") == 2
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"hvmctx: warning: handler .*'non\\+x1bsense' .* is not named layer:type\n", said
    )


def test_a_handler_that_fails_is_a_format_error(empty_registry: None) -> None:
    handlers.register(LIBXC, 0x20, lambda body: 1 // 0)
    with pytest.raises(FormatError, match=r"offset 0x48: .*ZeroDivisionError"):
        handlers.decode(StreamRecord(LIBXC, 0x20, 0, 0x40), b"")


@pytest.mark.parametrize("key", [key for key in ALL if handlers.model_of(*key) is not None])
def test_every_model_gives_back_what_it_reads(key: tuple[str, int]) -> None:
    read = []
    for size in (4096, 24, 8):  # a page, a TSC, a count of nothing
        with suppress(LengthError):
            read.append((handlers.parse(StreamRecord(*key, size, 0), bytes(size)), bytes(size)))
    assert read and all(parsed.to_bytes() == body for parsed, body in read)


def test_a_damaged_context_is_a_model_too() -> None:
    body = context_bytes()[:1000]
    context = handlers.parse(StreamRecord(LIBXC, streams.LIBXC_HVM_CONTEXT, 1000, 0), body)
    assert context.damage is not None and context.to_bytes() == body
    assert handlers.body_type("context", 2) is None and handlers.find("context", 2) is None


def test_a_registered_handler_has_no_say_in_what_hvmctx_reads_itself(empty_registry: None) -> None:
    data = EXAMPLE.read_bytes()
    with open_image(data) as image:
        before = image.params, image.tsc_info, image.emulators, dumps_json(image)
    for layer, number in ALL:
        handlers.register(layer, number, lambda body: "whatever")
    with open_image(data) as image:
        after = image.params, image.tsc_info, image.emulators, dumps_json(image)
        assert {image.decode(record) for record in image.records} == {"whatever"}
    assert before == after


class Doubled(handlers.Handler):
    def decode(self, body: bytes | memoryview) -> bytes:
        return bytes(body) * 2

    def encode(self, value: bytes) -> bytes:
        return value[: len(value) // 2]

    def to_json(self, value: bytes) -> str:
        return value.decode("ascii")

    def from_json(self, plain: str) -> bytes:
        return plain.encode()


def test_a_class_is_a_handler(announce: Callable[..., list[str]]) -> None:
    announce(FakeEntry("context:99", Doubled), FakeEntry("emulator:0x7", Doubled()))
    for handler in (handlers.handler_of("context", 99), handlers.content_of(7, b"ab")):
        assert isinstance(handler, handlers.Guarded)
        assert handler.plain(b"ab") == "abab" and handler.body("cdcd") == b"cd"
        assert handler.text(b"a") == "b'aa'" and handler.findings(b"a") == []
        assert handler.plain(b"\xff") is None, "what cannot be text there stays bytes"
    assert handlers.decode(StreamRecord(LIBXC, 0x55, 2, 0), b"ab") == b"ab"
    assert handlers.handler_of("context", 98) is None and handlers.content_of(8, b"ab") is None


def test_a_function_decodes_only(empty_registry: None) -> None:
    handlers.register("context", 99, len)
    handler = handlers.handler_of("context", 99)
    assert handler is not None and handler.text(b"abc") == "3" and handler.plain(b"abc") is None
    with pytest.raises(FormatError, match="its handler failed"):
        handler.body(3)


def test_what_a_handler_makes_must_be_bytes(empty_registry: None) -> None:
    odd = Doubled()
    odd.encode = lambda value: "text"  # type: ignore
    handlers.register("context", 99, odd)
    handler = handlers.handler_of("context", 99)
    assert handler is not None
    with pytest.raises(FormatError, match="made str, not bytes"):
        handler.body("a")


def test_an_entry_point_of_an_unknown_layer(
    announce: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    announce(FakeEntry("libxd:5", len), FakeEntry("libxc:0x20", len))
    assert handlers.decode(StreamRecord(LIBXC, 0x20, 2, 0), b"ab") == 2
    assert "unknown layer 'libxd', expected libxc, libxl, xapi, context" in capsys.readouterr().err


def test_out_of_memory_is_no_failure_of_a_handler(empty_registry: None) -> None:
    def greedy(body: bytes) -> int:
        raise MemoryError

    handlers.register("context", 99, greedy)
    handler = handlers.handler_of("context", 99)
    assert handler is not None
    for method in (handler.text, handler.plain, handler.findings, handler.decoded):
        with pytest.raises(MemoryError):
            method(b"")


def test_contents(announce: Callable[..., list[str]]) -> None:
    """By what the bytes are, before packages are looked for; but who registers is first."""
    asked = announce(FakeEntry("emulator:2", len))
    assert isinstance(handlers.content_of(2, b"QEVM\0\0\0\3"), DeviceModelState)
    context = handlers.content_of(2, context_bytes())
    assert isinstance(context, HvmContext) and context.to_bytes() == context_bytes()
    assert isinstance(handlers.content_of(2, b"\x15\0\0\0\2\0\0\0ab"), HvmContext)
    assert asked == []
    for other in (b"\x15\0\0\0\3\0\0\0ab", b"\x15\0\0\0", b"\1\0\0\0\x17\0\0\0" + bytes(24)):
        assert isinstance(handlers.content_of(2, other), handlers.Guarded)
    handlers.register(handlers.EMULATOR, 2, bytes.hex)
    found = handlers.content_of(2, b"QEVM\0\0\0\3")
    assert isinstance(found, handlers.Guarded) and found.text(b"ab") == "'6162'"
