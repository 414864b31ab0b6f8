from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams as streams_abi
from hvmctx.abi.checked import Disagreement
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.vmport import VmportProfile, using
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import VmportState
from hvmctx.errors import FieldError, HvmctxError
from hvmctx.files.opening import is_compressed
from hvmctx.image.image import open_image
from hvmctx.json_form import schema
from hvmctx.json_form.document import Document
from hvmctx.json_form.dump import as_json, as_ndjson
from tests.builders.contexts import any_contexts
from tests.builders.examples import few, one_in
from tests.builders.samples import CONTEXTS, DATA, EXAMPLE, IMAGES, STREAMS, context_bytes
from tests.builders.streams import SMALL, libxc_stream, libxl, page_data, record, word, xl_head
from tests.builders.vmport import PROFILES, busy_state

SCHEMA = schema.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LINE = jsonschema.Draft202012Validator({"$ref": "#/$defs/line", "$defs": SCHEMA["$defs"]})


def test_shipped_copy_is_current() -> None:
    assert schema.PATH.read_text() == schema.text(), "run make generate"
    jsonschema.Draft202012Validator.check_schema(schema.schema())


SAMPLES = [*IMAGES, EXAMPLE, *STREAMS, *CONTEXTS, *(DATA / "streams" / "handbuilt").glob("*.bin")]


@pytest.mark.parametrize("path", one_in(4, SAMPLES), ids=lambda path: "/".join(path.parts[-2:]))
def test_what_is_written_is_valid(path: Path) -> None:
    document = Document.of_input(path)
    VALIDATOR.validate(json.loads(document.to_text()))
    VALIDATOR.validate(json.loads(document.to_text(hex_wide=True)))
    with open_image(path) as image:
        try:
            context = image.context
        except HvmctxError:
            return
    VALIDATOR.validate(json.loads("".join(as_json(context, None))))
    for line in "".join(as_ndjson(context, None)).splitlines():
        LINE.validate(json.loads(line))


@given(st.binary(max_size=200) | any_contexts)
def test_what_is_written_of_any_context_is_valid(data: bytes) -> None:
    if not is_compressed(data):
        VALIDATOR.validate(json.loads(Document.of_input(data, "context").to_text()))


@few
@given(st.data())
def test_what_is_written_of_any_image_is_valid(data: st.DataObject) -> None:
    damaged = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    VALIDATOR.validate(json.loads(Document.of_input(bytes(damaged), "xl").to_text()))


@pytest.mark.parametrize("profile", PROFILES, ids=repr)
def test_vmport_of_any_profile(profile: VmportProfile) -> None:
    with using(profile):
        body = VmportState.empty(profile).to_bytes(profile)
        data = HvmContext([Record(VMPORT_TYPECODE, 0, body), Record(0, 0)]).to_bytes()
        text = Document.of_input(data, "context").to_text()
        assert Document.from_text(text).to_bytes() == data
        validator = jsonschema.Draft202012Validator(schema.schema())
    plain = json.loads(text)
    assert "fields" in plain["context"]["records"][0]
    validator.validate(plain)
    plain["context"]["records"][0]["fields"]["channels"][0]["bogus"] = 1
    assert not validator.is_valid(plain)


GONE = object()
OF_CONTEXT = Document.of_input(context_bytes()).to_text()
OF_IMAGE = Document.of_input(SMALL).to_text()


def test_what_is_broken_below_is_valid_before() -> None:
    for text in (OF_CONTEXT, OF_IMAGE):
        VALIDATOR.validate(json.loads(text))


def broken(text: str, change: str, value: Any) -> Any:
    plain: Any = json.loads(text)
    place = plain
    *path, last = (int(name) if name.isdigit() else name for name in change.split("/"))
    for name in path:
        place = place[name]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return plain


RECORD = "context/records/1"


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (f"{RECORD}/fields/rip", 1 << 64),
        (f"{RECORD}/fields/rip", "x"),
        (f"{RECORD}/fields/rip", GONE),
        (f"{RECORD}/fields/fpu_regs", "00"),
        (f"{RECORD}/fields/bogus", 1),
        (f"{RECORD}/fields", GONE),
        (f"{RECORD}/feilds", {}),
        (f"{RECORD}/body", "00"),
        (f"{RECORD}/length", "5"),
        (f"{RECORD}/typecode", "2"),
        (f"{RECORD}/typecode", 99),
        (f"{RECORD}/typecode", 1.5),
        ("context/records/2/fields/init_state", 16),
        ("context/records/0/name", "CPU"),
        ("context/tail", "0"),
        ("hvmctx", 3),
        ("image", {"items": []}),
    ],
)
def test_what_cannot_be_is_invalid(change: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(broken(OF_CONTEXT, change, value))


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("0/fields/mandatory_flags", GONE),
        ("0/fields/bogus", 1),
        ("0/data", "00"),
        ("0/layer", "libxl"),
        ("1/config", "{}"),
        ("0/body", "00"),
        ("HVM_CONTEXT/payload/records/1/feilds", {}),
        ("HVM_CONTEXT/payload/records/1/fields", GONE),
        ("HVM_CONTEXT/payload/records/1/fields/rip", "x"),
        ("HVM_CONTEXT/payload/bogus", 1),
        ("HVM_CONTEXT/payload", 5),
        ("HVM_CONTEXT/body", "00"),
        ("HVM_CONTEXT/layer", "xl"),
        ("HVM_CONTEXT/layer", "zzz"),
        ("HVM_CONTEXT/type", 8),
        ("HVM_CONTEXT/type", 0x44),
        ("HVM_CONTEXT/type", GONE),
        ("HVM_CONTEXT/bogus", 1),
        ("X86_TSC_INFO/payload/kzh", 1),
        ("X86_TSC_INFO/payload/khz", GONE),
        ("X86_TSC_INFO/payload/khz", "x"),
        ("HVM_PARAMS/payload/params/0", [1]),
        ("HVM_PARAMS/payload/params/0", "00"),
        ("EMULATOR_CONTEXT/payload/payload", "0"),
        ("STATIC_DATA_END/payload", {}),
        ("PAGE_DATA/payload/words/0", -1),
    ],
)
def test_what_cannot_be_in_an_image_is_invalid(change: str, value: Any) -> None:
    items = json.loads(OF_IMAGE)["image"]["items"]
    first, slash, rest = change.partition("/")
    places = {item["name"]: at for at, item in enumerate(items) if "name" in item}
    at = places.get(first, first)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(broken(OF_IMAGE, f"image/items/{at}{slash}{rest}", value))


def small_context() -> bytes:
    """A record of each shape: with and without elements after it, short, unknown, END."""
    return (
        HvmContext(
            [
                Record("TSC_ADJUST", 0, bytes(range(8))),
                Record("CPU_MSR", 1, bytes([1]) + bytes(23) + b"\5"),
                Record("RTC", 0, bytes(25)),
                Record(99, 0, b"\1\2"),
                Record("END", 0),
            ]
        ).to_bytes()
        + b"tail"
    )


def small_image() -> bytes:
    pairs = b"k\0v\0"
    return libxc_stream(
        record(streams_abi.LIBXC_X86_TSC_INFO, bytes(24)),
        record(streams_abi.LIBXC_X86_CPUID_POLICY, bytes(48)),
        page_data(word(1)),
        record(streams_abi.LIBXC_HVM_CONTEXT, small_context()),
        record(streams_abi.LIBXC_HVM_PARAMS, bytes([1]) + bytes(23)),
        record(streams_abi.LIBXC_X86_TSC_INFO, b"short"),
        record(0x44, pairs),
        record(streams_abi.LIBXC_END),
    )


def vmport_context() -> bytes:
    """A state that says all, and one with bytes that only `raw` can say."""
    body = busy_state().to_bytes()
    records = [Record("VMPORT", 0, body), Record("VMPORT", 1, body + b"behind")]
    return HvmContext([*records, Record("VMPORT", 2, b"short"), Record("END", 0)]).to_bytes()


DOCUMENTS = [
    Document.of_input(small_context(), "context").to_text(),
    Document.of_input(vmport_context(), "context").to_text(),
    Document.of_input(small_image(), "libxc").to_text(),
    Document.of_input(
        xl_head(b"{}\0")
        + libxl(
            record(streams_abi.LIBXL_EMULATOR_CONTEXT, bytes(8) + b"qemu"),
            record(streams_abi.LIBXL_EMULATOR_XENSTORE_DATA, bytes(8) + b"k\0v\0"),
        ),
        "xl",
    ).to_text(),
]
VALUES: list[Any] = [
    None, True, 0, 1, 2, 8, 9, 24, 99, -1, 1 << 16, 1 << 32, 1 << 64, 1.5, "", "00", "0011", "x",
    "0x1f", "-0x1", "12", "0x1" + "0" * 16, "type 99", "type 0x44", "TSC_ADJUST", "tsc_adjust", "END",
    "xl", "libxl", "libxc", "header", "image header", [], {}, [0], [1, 2], [[1, 2]], ["00", "00"],
]  # fmt: skip
KEYS = [
    "name", "typecode", "instance", "length", "offset", "fields", "rest", "body", "records", "tail",
    "damage", "layer", "type", "header", "config", "data", "payload", "padding", "format", "items",
    "hvmctx", "context", "image", "guestinfo", "raw", "channels", "send", "khz", "msr", "reserved", "optional_data_len", "other",
]  # fmt: skip


def places(plain: Any) -> Iterator[tuple[Any, Any]]:
    """Every object and list in a document, with each of its keys."""
    left = [plain]
    while left:
        holder = left.pop()
        for key in holder if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                left.append(holder[key])


def change(plain: Any, data: st.DataObject) -> None:
    holder, key = data.draw(st.sampled_from(list(places(plain))))
    what = data.draw(st.sampled_from(("set", "drop", "rename", "add")))
    if what == "set":
        holder[key] = data.draw(st.sampled_from(VALUES))
    elif what == "drop":
        del holder[key]
    elif isinstance(holder, dict):
        value = holder.pop(key) if what == "rename" else data.draw(st.sampled_from(VALUES))
        holder[data.draw(st.sampled_from(KEYS))] = value


@given(st.sampled_from(DOCUMENTS), st.data())
def test_the_schema_accepts_what_is_read(text: str, data: st.DataObject) -> None:
    """Whatever is changed in a document: what from-json refuses is invalid, and nothing else
    is, but for what does not match what stands beside it."""
    plain = json.loads(text)
    for _ in range(data.draw(st.integers(1, 3))):
        change(plain, data)
        if not plain:
            return
    if plain.get("hvmctx") == 1:  # read, and the schema is of the newest
        return
    try:
        Document.from_text(json.dumps(plain)).to_bytes()
    except Disagreement:
        return
    except FieldError as error:
        assert not VALIDATOR.is_valid(plain), error
    else:
        VALIDATOR.validate(plain)
