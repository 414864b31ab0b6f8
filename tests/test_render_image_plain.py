from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FieldError, HvmctxError
from hvmctx.image import open_image
from hvmctx.render.image_plain import image_from_plain, image_to_plain
from tests.samples import (
    DATA,
    EXAMPLE,
    IMAGES,
    SMALL,
    STREAMS,
    libxc_stream,
    page_data,
    record,
    word,
)

HAND_BUILT = sorted((DATA / "streams" / "handbuilt").glob("*.bin"))
WRAPPED = [DATA / "streams" / "plain.xl", DATA / "streams" / "with-xenstore.libxl"]


def there_and_back(data: bytes, layer: str | None = None) -> bytes:
    with open_image(data, layer=layer) as image:
        plain = image_to_plain(image)
    return image_from_plain(json.loads(json.dumps(plain)))


@pytest.mark.parametrize(
    "path", [*IMAGES, EXAMPLE, *STREAMS, *HAND_BUILT, *WRAPPED], ids=lambda path: path.name
)
def test_samples(path: Path) -> None:
    data = path.read_bytes()
    assert there_and_back(data) == data


def test_every_truncation() -> None:
    for cut in range(len(SMALL)):
        assert there_and_back(SMALL[:cut], "xl") == SMALL[:cut]


@given(st.data())
def test_flipped_bytes(data: st.DataObject) -> None:
    broken = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    assert there_and_back(bytes(broken), "xl") == bytes(broken)


def test_form() -> None:
    with open_image(EXAMPLE) as image:
        plain = image_to_plain(image)
    items = plain["items"]
    assert plain["format"] == "xl" and plain["tail"] == ""
    assert json.loads(items[0]["config"])["c_info"]["name"] == "hvm1"
    by_name = {item.get("name", item.get("header")): item for item in items}
    assert by_name["HVM_CONTEXT"]["payload"]["records"][1]["name"] == "CPU"
    assert by_name["X86_TSC_INFO"]["payload"]["khz"] == 2599997
    assert by_name["HVM_PARAMS"]["payload"]["params"][0] == [1, 0xFEFFC]
    assert by_name["domain header"]["fields"]["xen_minor"] == 17
    assert by_name["EMULATOR_CONTEXT"]["payload"]["emulator_id"] == 2


def test_what_cannot_be_taken_apart_is_hex() -> None:
    data = libxc_stream(record(8, b"short"), page_data(word(1)), record(0x44, b"x", pad=b"\1"))
    with open_image(data) as image:
        items = image_to_plain(image)["items"]
    assert items[2]["body"] == b"short".hex()
    assert items[3]["payload"]["words"] == [1]
    assert items[4]["padding"] == "01" * 7


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (5, r"items\[0\]: found int"),
        ({}, r"items\[0\]: .*layer"),
        ({"header": "header", "layer": "nope"}, "no header 'header' in layer 'nope'"),
        ({"header": "header", "layer": "xl", "fields": {}}, "byteorder"),
        ({"layer": "libxc", "type": 1 << 32}, "32-bit field"),
        ({"layer": "libxc", "type": 8, "payload": {"mode": 1}}, "khz"),
        ({"layer": "libxc", "type": 8, "payload": 5}, "not the form"),
        ({"layer": "libxc", "type": 16, "payload": {}}, "have a body, not a payload"),
        ({"layer": "libxc", "type": 1, "payload": {"words": [1 << 64]}}, "64-bit field"),
        (
            {"layer": "libxc", "type": 10, "payload": {"params": [[1]], "reserved": 0}},
            "HVM_PARAMS: ",
        ),
        ({"layer": "libxc", "type": 99, "body": "xyz"}, "hex digits"),
    ],
)
def test_what_is_no_item(item: Any, reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        image_from_plain({"items": [item]})


def test_what_is_no_image() -> None:
    for plain in ({}, {"items": 5}, {"items": [], "tail": "x"}):
        with pytest.raises(HvmctxError):
            image_from_plain(plain)
