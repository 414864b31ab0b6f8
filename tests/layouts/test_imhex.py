"""The pattern, run by ImHex's own interpreter where there is one (`plcli`, of WerWolv's
PatternLanguage, which no package has): every value is ours. Else what can be told by looking."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import QEMU_VMPORT_RPC, using
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import to_record
from hvmctx.layouts import imhex
from hvmctx.layouts.declarations import Declarations, identifier
from tests.builders.parsed import number_of_values, of_json
from tests.builders.samples import CONTEXTS, DATA, EXAMPLE, IMAGES, STREAMS
from tests.builders.streams import checkpointed
from tests.builders.vmport import busy_state
from tests.builders.wrappers import WRAPPED

PLCLI = shutil.which("plcli")


def values(data: bytes, folder: Path) -> int:
    """How many, all of them ours."""
    if PLCLI is None:
        pytest.skip("no plcli; docs/layouts.md says how it is built")
    paths = folder / "input", folder / "xen_save.hexpat", folder / "said.json"
    paths[0].write_bytes(data)
    paths[1].write_text(imhex.text())
    paths[2].unlink(missing_ok=True)
    done = subprocess.run(
        [PLCLI, "format", "-f", "json", "-i", paths[0], "-p", paths[1], "-o", paths[2]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stdout and done.returncode == 0, done.stdout
    plain = json.loads(paths[2].read_text(errors="surrogateescape"))
    return number_of_values(of_json(plain["image"]), data)


SAMPLES = [
    EXAMPLE, *IMAGES, *STREAMS, *(DATA / "streams").glob("*.*xl"),
    *(path for path in CONTEXTS[::8] if "edge" not in path.parts),
]  # fmt: skip


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_value(path: Path, tmp_path: Path) -> None:
    assert values(path.read_bytes(), tmp_path) > 2


def test_wrappers_and_vmport(tmp_path: Path) -> None:
    virsh = lzma.decompress((DATA / "libvirt" / "lvpvh.save.xz").read_bytes())
    vmport = HvmContext([to_record(busy_state()), Record(0, 0)]).to_bytes()
    for data in (WRAPPED["xapi"], WRAPPED["libvirt"], virsh, vmport, checkpointed()):
        assert values(data, tmp_path) > 20


def texts() -> list[str]:
    with using(QEMU_VMPORT_RPC):
        return [imhex.text(), imhex.text(Release("4.0"))]


BUILT_IN = {"u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "char", "be", "padding"}
DECLARES = re.compile(r"^(struct|union|bitfield|enum|using) (\w+)", re.MULTILINE)
MEMBER = re.compile(
    r"^    (?:(?:else )?if \(.*?\) )?(?:be )?(\w+)(?:<[^;]*>)? \w+(?:\[.*\])?;", re.MULTILINE
)


def test_types_come_before_their_use() -> None:
    """Each is declared once, states besides in advance."""
    for text in texts():
        code = re.sub(r"//.*", "", text)
        for opening, closing in ("{}", "()", "[]"):
            assert code.count(opening) == code.count(closing)
        declared = [name for kind, name in DECLARES.findall(code) if kind != "using"]
        assert len(set(declared)) == len(declared) > 60
        for found in MEMBER.finditer(code):
            before = [name for _, name in DECLARES.findall(code[: found.start()])]
            assert found[1] in BUILT_IN or found[1] in before, found[0]


def test_every_field_is_there() -> None:
    text = imhex.text()
    for shape in Declarations().shapes:
        for field in shape.fields:
            if not (field.alternate and field.is_reserved):
                assert re.search(rf"\b{identifier(field.name)}\b(?:\[\d+\]| : \d+)?;", text), (
                    field.name
                )


def test_what_is_not_always_there() -> None:
    text = imhex.text()
    assert "    if (end - begin >= 24) s64 rtc_offset;\n" in text
    of_old = imhex.text(Release("4.6"))
    assert "s64 rtc_offset" not in of_old and "save records as Xen 4.6 has them" in of_old
