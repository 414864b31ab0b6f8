from __future__ import annotations

import json
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FieldError
from hvmctx.image.image import Image, open_image
from hvmctx.json_form.document import Document, dumps_json, loads_json, parts_of_image
from hvmctx.json_form.image import ImageModel, StreamRecordModel
from hvmctx.json_form.models import RecordModel
from hvmctx.json_form.text import pieces
from hvmctx.limits import Limits
from tests.builders.samples import DATA, EXAMPLE, IMAGES, STREAMS, context_bytes
from tests.builders.streams import (
    CUTS,
    SMALL,
    hvm,
    libxc_stream,
    libxl_head,
    page_data,
    record,
    word,
    xl_head,
)

HAND_BUILT = sorted((DATA / "streams" / "handbuilt").glob("*.bin"))
WRAPPED = [DATA / "streams" / "plain.xl", DATA / "streams" / "with-xenstore.libxl"]


def image_to_plain(image: Image) -> Any:
    return ImageModel.of(image).to_dict()


def image_from_plain(plain: Any) -> bytes:
    return ImageModel.from_dict(plain).to_bytes()


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
    for cut in CUTS:
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


XL = {"layer": "xl", "header": "header"}
LIBXL_FIELDS: dict[str, Any] = {"ident": 1, "version": 2, "options": 0}
LIBXL = {"layer": "libxl", "header": "header", "fields": LIBXL_FIELDS}
XL_FIELDS = {"byteorder": 1, "mandatory_flags": 3, "optional_flags": 0}
TSC_FIELDS = {"mode": 1, "khz": 2, "nsec": 3, "incarnation": 4, "reserved": 0}
TSC = {"layer": "libxc", "type": 8, "payload": TSC_FIELDS}
PARAMS = {"layer": "libxc", "type": 10}
BODY = {"layer": "libxc", "type": 99, "body": "010203"}


def tsc(**changes: Any) -> Any:
    return {**TSC, "payload": {**TSC_FIELDS, **changes}}


def params(*entries: Any) -> Any:
    return {**PARAMS, "payload": {"params": list(entries), "reserved": 0}}


def payload(number: int, layer: str = "libxc", **fields: Any) -> Any:
    return {"layer": layer, "type": number, "payload": fields}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (5, "found 5, expected an object"),
        ({}, "layer is missing"),
        ({"layer": "libxc"}, "type is missing"),
        ({**LIBXL, "layer": "nope"}, "no header 'header' in layer 'nope'"),
        ({**LIBXL, "layer": 5}, "layer: found 5, expected a string"),
        ({**LIBXL, "header": []}, "header: found a list of 0, expected a string"),
        ({**LIBXL, "feilds": {}}, "unknown key 'feilds'; expected layer, header, offset, fields, config"),
        ({**LIBXL, "body": ""}, "unknown key 'body'; expected layer, header"),
        ({**LIBXL, "fields": {**LIBXL_FIELDS, "x": 1}}, "unknown key 'x'; expected ident, version"),
        ({**LIBXL, "fields": {"ident": 1}}, "version is missing"),
        ({**LIBXL, "fields": 5}, "found 5, expected an object"),
        ({**LIBXL, "fields": {**LIBXL_FIELDS, "version": 1.5}}, "version: found 1.5, expected"),
        ({**LIBXL, "fields": {**LIBXL_FIELDS, "version": 1 << 32}}, "version is a 32-bit field"),
        ({**LIBXL, "data": "00"}, "the libxl header has no config or data"),
        ({**XL, "fields": {}}, "byteorder is missing"),
        (XL, "fields is missing"),
        ({**XL, "fields": XL_FIELDS, "config": "", "data": ""}, "found both data and config, expected one of them"),
        ({**XL, "fields": XL_FIELDS, "config": 5}, "config: found 5, expected a string"),
        ({**XL, "fields": XL_FIELDS, "config": "\ud800"}, "config: not text"),
        (
            {**XL, "fields": {**XL_FIELDS, "optional_data_len": 9}, "config": "{}"},
            "optional_data_len 9 does not match 7 bytes of config or data; leave it out",
        ),
        (
            {**XL, "fields": {**XL_FIELDS, "optional_data_len": 9}},
            "optional_data_len 9 does not match 0 bytes",
        ),
        ({"layer": "libxc", "type": 1 << 32}, "type is a 32-bit field"),
        ({**BODY, "layer": "zzz"}, "layer: found 'zzz', expected libxl or libxc"),
        ({**BODY, "layer": "xl"}, "layer: found 'xl', expected libxl or libxc"),
        ({**BODY, "bdy": ""}, "unknown key 'bdy'; expected layer, type, name"),
        ({**BODY, "header": None, "config": ""}, "unknown key 'header'; expected layer, type, name"),
        ({**BODY, "name": "END"}, "name 'END' does not match type 0x63 of libxc; leave it out"),
        ({**BODY, "length": 4}, "length 4 does not match 3 bytes of body; leave it out"),
        ({**BODY, "padding": "00"}, "padding of 1 bytes where there is room for 5; leave it out"),
        ({**BODY, "padding": "00" * 6}, "padding of 6 bytes where there is room for 5"),
        ({**BODY, "body": "xyz"}, "body: found 'xyz', expected a string of hex digits"),
        ({**BODY, "body": None, "length": 3}, "length 3 does not match 0 bytes"),
        ({**BODY, "payload": {}}, "found both payload and body, expected one of them"),
        ({"layer": "libxc", "type": 16, "payload": {}}, "records of type 0x10 have a body"),
        ({"layer": "libxc", "type": 8}, "found neither payload nor body"),
        ({"layer": "libxc", "type": 8, "payload": None, "length": 24}, "found neither payload nor body"),
        ({**TSC, "length": 25}, "length 25 does not match 24 bytes of payload; leave it out"),
        ({**TSC, "payload": {"mode": 1}}, "khz is missing"),
        ({**TSC, "payload": 5}, "found 5, expected an object"),
        (tsc(kzh=1), "unknown key 'kzh'; expected mode, khz"),
        (tsc(khz=None), "khz: found null, expected a number"),
        (tsc(khz=1 << 32), "khz is a 32-bit field: 4294967296 does not fit"),
        (tsc(khz=[]), "khz: found a list of 0, expected a number"),
        (params([1]), r"params\[0\]: found a list of 1, expected 2 values"),
        (params([1, 2], "00"), r"params\[1\]: found '00', expected a list"),
        (params([1, "x"]), r"params\[0\]: value: found 'x', expected a number"),
        (params([1, 1 << 64]), r"params\[0\]: value is a 64-bit field"),
        ({**PARAMS, "payload": {"params": {}, "reserved": 0}}, "params: found an object"),
        (payload(17, leaves=[[0] * 6, [0, 0, 0, 1 << 32, 0, 0]]), r"leaves\[1\]: ebx is a 32-bit"),
        (payload(1, words=[0, 1 << 64], pages="", reserved=0), r"words\[1\] is a 64-bit field"),
        (
            payload(2, "libxl", emulator_id=1, index=0, pairs=[["00", 5]]),
            r"pairs\[0\]\[1\]: found 5, expected a string of hex",
        ),
        (payload(3, "libxl", emulator_id=1, index=1 << 40, payload=""), "index is a 32-bit field"),
    ],
)  # fmt: skip
def test_what_is_no_item(item: Any, reason: str) -> None:
    with pytest.raises(FieldError, match=rf"^items\[1\][^:]*: (.*: )?{reason}") as caught:
        image_from_plain({"items": [LIBXL, item]})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda cpu: cpu.update(feilds=cpu.pop("fields")), "unknown key 'feilds'; expected"),
        (lambda cpu: cpu.pop("fields"), "found neither fields nor body"),
        (lambda cpu: cpu["fields"].pop("rip"), "rip is missing"),
        (lambda cpu: cpu.update(length=5.5), "length: found 5.5"),
    ],
)
def test_a_context_inside_is_read_as_strictly(change: Callable[[Any], None], reason: str) -> None:
    with open_image(EXAMPLE) as image:
        plain = image_to_plain(image)
    (at, item) = next(
        (at, item) for at, item in enumerate(plain["items"]) if item.get("name") == "HVM_CONTEXT"
    )
    change(item["payload"]["records"][1])
    where = rf"^items\[{at}\] HVM_CONTEXT: records\[1\] CPU/0: "
    with pytest.raises(FieldError, match=where + reason):
        image_from_plain(plain)


def test_what_may_be_left_out() -> None:
    with open_image(SMALL) as image:
        plain = image_to_plain(image)
    for item in plain["items"]:
        for key in ("offset", "length", "name"):
            item.pop(key, None)
        item.get("fields", {}).pop("optional_data_len", None)
    plain.pop("format")
    assert image_from_plain(plain) == SMALL
    plain["items"][0]["config"] = '{"longer": 1}'
    assert len(image_from_plain(plain)) == len(SMALL) + 11
    empty = {"layer": "libxc", "type": 8, "name": "X86_TSC_INFO", "length": 0}
    assert image_from_plain({"items": [empty]}) == record(8)


def test_the_format_is_where_the_image_starts() -> None:
    assert image_from_plain({"format": "libxl", "items": [LIBXL]})
    for plain in (
        {"format": "xl", "items": [LIBXL]}, {"format": 5, "items": [LIBXL]},
        {"format": "zzz", "items": []},
    ):  # fmt: skip
        with pytest.raises(FieldError, match=r"^format: found"):
            image_from_plain(plain)


def test_what_is_no_image() -> None:
    wrong: list[Any] = [
        5, {}, {"items": 5}, {"items": {}}, {"items": ""}, {"items": [], "tail": "x"},
        {"items": [], "tail": 12}, {"items": [], "itmes": []},
    ]  # fmt: skip
    for plain in wrong:
        with pytest.raises(FieldError):
            image_from_plain(plain)


@pytest.mark.parametrize("model", [StreamRecordModel, RecordModel])
def test_one_model_at_a_time(
    model: type[StreamRecordModel | RecordModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of very many records is written and read with memory for one."""
    many = record(0x80000020, bytes(300)) * 50
    text = dumps_json(hvm(many) if model is StreamRecordModel else context_bytes())
    alive: list[int] = []
    made: list[weakref.ref[Any]] = []
    name = "to_bytes" if model is StreamRecordModel else "to_record"
    usual = getattr(model, name)

    def noting(self: Any, *values: Any, **named: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *values, **named)

    def counting(self: Any) -> Any:
        alive.append(sum(one() is not None for one in made))
        return usual(self)

    begin = model.__init__
    monkeypatch.setattr(model, "__init__", noting)

    monkeypatch.setattr(model, name, counting)
    assert loads_json(text)
    assert len(alive) > 15 and max(alive) - alive[0] <= 1
    alive.clear()
    assert Document.from_text(text).to_bytes() == loads_json(text)
    assert alive[0] > 15, "those of a Document are all there, to be changed"


def test_records_are_made_when_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    usual = StreamRecordModel.of

    def counting(image: Image, item: Any, *rest: Any) -> StreamRecordModel:
        made.append(item.type)
        return usual(image, item, *rest)

    monkeypatch.setattr(StreamRecordModel, "of", counting)
    with open_image(hvm(record(0x80000020, bytes(1 << 18)) * 20)) as image:
        parts = parts_of_image(image)
        number = 0
        for number, _ in enumerate(pieces(parts), 1):
            assert len(made) <= 4 + 3 * number
    assert len(made) > 20 and number > 8


def test_a_long_configuration_is_hex() -> None:
    """As text it could take four times its bytes."""
    config = b"name='\xf0\x9f\x98\x80'" + bytes(1)
    data = xl_head(struct.pack("<I", len(config)) + config) + libxl_head()
    for most, key in ((1 << 20, "config"), (10, "data")):
        with open_image(data, limits=Limits(config=most)) as image:
            text = dumps_json(image)
        header = json.loads(text)["image"]["items"][0]
        assert key in header and len({"config", "data"} & header.keys()) == 1
        assert loads_json(text) == data
