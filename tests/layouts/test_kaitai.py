"""The description, compiled by Kaitai Struct's own compiler and run: every value is ours."""

from __future__ import annotations

import doctest
import json
import lzma
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import QEMU_VMPORT_RPC, using
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Slots, VmportState, to_record
from hvmctx.errors import HvmctxError
from hvmctx.image.image import open_image
from hvmctx.layouts import kaitai
from hvmctx.stream.body import BODIES
from tests.builders.examples import few, one_in
from tests.builders.parsed import number_of_values, same_body
from tests.builders.samples import CONTEXTS, DATA, EXAMPLE, IMAGES, ROOT, STREAMS
from tests.builders.streams import checkpointed
from tests.builders.vmport import busy_state
from tests.builders.wrappers import WRAPPED

FOLDER = Path(__file__).parent
MISSING = "no Kaitai Struct compiler: npm install --prefix tests/layouts; pip install kaitaistruct"


@cache
def parsers() -> dict[str, Any]:
    """What the compiler makes of a description of all releases, and of one of 4.6 with other
    constants of VMPORT's: one run of node for both."""
    node = shutil.which("node")
    pytest.importorskip("kaitaistruct", reason=MISSING)
    if node is None or not (FOLDER / "node_modules" / "kaitai-struct-compiler").is_dir():
        pytest.skip(MISSING)
    with using(QEMU_VMPORT_RPC):
        texts = {"4.6": kaitai.text(Release("4.6"))}
    texts["all"] = kaitai.text()
    done = subprocess.run(
        [node, FOLDER / "compile.cjs"], input=json.dumps(texts), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = {}
    for name, code in json.loads(done.stdout).items():
        module = ModuleType(f"kaitai_{name}")
        exec(compile(code, f"<{name}.py>", "exec"), vars(module))
        made[name] = vars(module)["XenSave"]
    return made


def values(data: bytes, layer: str | None = None, name: str = "all") -> int:
    """How many, all of them ours."""
    return number_of_values(parsers()[name].from_bytes(data), data, layer)


SAMPLES = [
    EXAMPLE, *IMAGES, *STREAMS, *(DATA / "streams").glob("*.*xl"),
    *(DATA / "streams" / "handbuilt").glob("*ok.bin"), *one_in(8, CONTEXTS),
]  # fmt: skip


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_value(path: Path) -> None:
    from kaitaistruct import EndOfStreamError

    parsers()
    try:
        assert values(path.read_bytes()) > 2
    except EndOfStreamError:  # a record that is not all there
        with open_image(path) as image:
            assert image.problems


def test_wrappers() -> None:
    for layer in ("xapi", "libvirt"):
        assert values(WRAPPED[layer]) > 20
    assert values(checkpointed()) > 40
    virsh = lzma.decompress((DATA / "libvirt" / "lvpvh.save.xz").read_bytes())
    assert values(virsh) > 4000


def test_the_layer_is_told_by_the_first_bytes() -> None:
    parser = parsers()["all"]
    whole = parser.from_bytes(EXAMPLE.read_bytes())
    records = whole.xl_header.libxl_header.libxl_records.records
    assert [record.name.name for record in records] == ["libxc_context"]
    assert whole.xl_header.data.config.startswith(b"{")
    assert parser.from_bytes(bytes(8)).is_xl is False
    assert not hasattr(parser.from_bytes(b"").context, "records")


def test_the_lines_on_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "layouts.md").read_text()
    (code,) = re.findall(r"^```text\n(>>> .*?)^```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLE, "guest.save")
    lines = doctest.DocTestParser().get_doctest(code, {"XenSave": parsers()["all"]}, "", "", 0)
    said: list[str] = []
    assert doctest.DocTestRunner().run(lines, out=said.append).failed == 0, "".join(said)


def test_vmport() -> None:
    data = HvmContext([to_record(busy_state()), Record(0, 0)]).to_bytes()
    assert values(data, "context") > 100
    with using(QEMU_VMPORT_RPC) as profile:
        state = VmportState.empty(profile)
        state.channels[7].recv[3].data = b"last"
        state.guestinfo = Slots({b"k": b"v"})
        data = HvmContext([to_record(state), Record(0, 0)]).to_bytes()
        assert values(data, "context", "4.6") > 100


def test_of_one_release() -> None:
    """Its records alone: another length is bytes, and so is another type."""
    lengths = (("RTC", 16), ("RTC", 8), ("CPU", 1032), ("CPU", 1016), ("END", 0))
    records = [Record(name, 0, bytes(size)) for name, size in lengths]
    found = parsers()["4.6"].from_bytes(HvmContext(records).to_bytes()).context.records
    assert not hasattr(found[0].body, "rtc_offset") and found[0].body.rest == b""
    assert found[1].body == bytes(8)
    assert found[2].body.rest == bytes(8) and found[3].body.rest == b""


@few
@given(st.data())
def test_any_record(data: st.DataObject) -> None:
    """Of every type, any bytes of any length: the values are ours, or they are bytes."""
    records = data.draw(
        st.lists(st.tuples(st.integers(1, 25), st.binary(max_size=700)), max_size=4)
    )
    context = HvmContext([*(Record(code, 0, body) for code, body in records), Record(0, 0)])
    assert values(context.to_bytes(), "context") > 2


@few
@given(st.data())
def test_any_body(data: st.DataObject) -> None:
    parser = parsers()["all"]
    places = sorted(place for place in BODIES if place[1] in streams.RECORDS.get(place[0], ()))
    layer, number = data.draw(st.sampled_from(places))
    kind = BODIES[layer, number]
    body = data.draw(st.binary(max_size=100))
    try:
        kind.model.from_bytes(body)
    except HvmctxError:
        return
    head = streams.RECORD_HEADERS[layer].pack(number, len(body))
    stream = head + body + bytes(-len(body) % streams.RECORD_ALIGNS[layer])
    record = getattr(parser, f"{layer.capitalize()}Record").from_bytes(stream)
    assert same_body(record.body, kind, body) >= 0
