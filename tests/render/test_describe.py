from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.image import handlers
from hvmctx.image.image import open_image
from hvmctx.render.describe import describe
from hvmctx.render.describe_text import print_description
from tests.builders.samples import DATA, EXAMPLE, context_bytes
from tests.builders.streams import SMALL, Pipe, libxc_stream, page_data, record, word


def in_words(plain: dict[str, Any]) -> str:
    out = io.StringIO()
    print_description(plain, out)
    return out.getvalue()


def test_pv() -> None:
    with open_image(DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin") as image:
        plain = describe(image)
    assert plain["pv"] == {
        "guest_width": 8, "pt_levels": 4, "p2m": [0, 0x3FF], "max_pfn": 0,
        "vcpus": [{"vcpu": 0, "ip": 0, "sp": 0, "page_table": 0}],
    }  # fmt: skip
    assert plain["policies"] == {"cpuid": 1, "msr": 1}


def test_configuration() -> None:
    with open_image(EXAMPLE) as image:
        assert describe(image)["config"] == {
            "form": "JSON", "name": "hvm1", "uuid": "3e5e5ef5-72ee-4468-8835-90bbbbc93959",
            "type": "hvm", "max_vcpus": 1, "online_vcpus": 1, "max_memkb": 16384,
            "target_memkb": 16384,
        }  # fmt: skip


def test_a_problem_is_told_once() -> None:
    data = libxc_stream(page_data(word(1)), page_data(*map(word, range(2, 50))))
    for piped in (False, True):
        cut = data[: data.index(page_data(word(1))) + 4096 + 70]
        with open_image(Pipe(cut) if piped else cut) as image:
            plain = describe(image)
        assert len(plain["problems"]) == 1
        assert plain["memory"]["populated"] == 4096


def test_what_other_packages_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_handlers", {})
    handlers.register("libxc", 0x80000020, lambda body: {"size": len(body)})
    data = libxc_stream(record(0x80000020, b"abc"), record(0x80000021, b"abc"))
    with open_image(data) as image:
        (decoded,) = describe(image)["decoded"]
    assert decoded == {
        "layer": "libxc", "type": 0x80000020, "name": "type 0x80000020",
        "offset": data.index(record(0x80000020, b"abc")), "length": 3, "payload": "{'size': 3}",
    }  # fmt: skip


def test_parked_vcpu() -> None:
    with open_image(DATA / "images" / "hvm2x420.save") as image:
        plain = describe(image)
    assert plain["context"]["vcpus"] == 1 and plain["context"]["vcpu_ids"] == [0, 1]
    assert "1 of 2 vcpus online" in in_words(plain)


def test_converted_stream() -> None:
    head = bytearray(libxc_stream(record(9, context_bytes())))
    head[32:40] = bytes(4) + b"\1\0\0\0"
    with open_image(bytes(head)) as image:
        assert "converted from a legacy stream" in in_words(describe(image))


def test_what_is_odd_is_said() -> None:
    data = libxc_stream(record(0x80000055), record(9, context_bytes()[:-1], pad=b"\1")) + b"more"
    with open_image(data) as image:
        plain = describe(image)
    assert len(plain["notes"]) == 3 and len(plain["problems"]) == 1
    text = in_words(plain)
    assert "note: libxc: offset 0x28: unknown optional record" in text
    assert "type 0x80000055 (optional)" in text
    assert "problem: context: offset" in text


@given(st.data())
def test_anything_can_be_described(data: st.DataObject) -> None:
    broken = bytearray(SMALL)
    for _ in range(data.draw(st.integers(0, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)))
    with open_image(bytes(broken[:cut]), layer="xl") as image:
        plain = describe(image)
    assert json.loads(json.dumps(plain)) == plain
    assert in_words(plain).startswith("buffer: xl")


@pytest.mark.parametrize("data", [b"", context_bytes(), context_bytes()[:100]])
def test_bare_contexts(data: bytes) -> None:
    with open_image(data) as image:
        plain = describe(image)
    assert plain["complete"] == (len(data) == len(context_bytes()))
    assert bool(plain["problems"]) != plain["complete"]
    assert in_words(plain).startswith("buffer: context")


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_handlers", {})
    handlers.register("libxc", 0x80000020, lambda _: Unshowable())
    with open_image(libxc_stream(record(0x80000020, b"abc"))) as image:
        (decoded,) = describe(image)["decoded"]
    assert decoded["payload"] == "Unshowable, which cannot be shown (RuntimeError)"
