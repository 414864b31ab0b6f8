"""schema as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmctx.abi.releases import Release
from hvmctx.json_form import schema
from hvmctx.layouts import c_header, imhex, kaitai
from tests.builders.running import Run
from tests.builders.samples import ROOT


@pytest.mark.parametrize(
    ("option", "text", "shipped"),
    [
        ("--c", c_header.text, "hvmctx.h"),
        ("--kaitai", kaitai.text, "xen_save.ksy"),
        ("--imhex", imhex.text, "xen_save.hexpat"),
        ("--json-schema", schema.text, "../../hvmctx/data/hvmctx.schema.json"),
    ],
)
def test_prints_what_is_shipped(option: str, text: object, shipped: str, run: Run) -> None:
    status, said = run("schema", option)
    assert (status, said.err) == (0, "") and said.out.isascii()
    assert said.out == (ROOT / "share" / "hvmctx" / shipped).read_text(), "run make generate"


def test_of_a_release_and_a_profile(run: Run) -> None:
    said = run("schema", "--c", "--release", "4.6")
    assert said.out == c_header.text(Release("4.6")) and "hvmctx_hvm_hw_cpu, 1024)" in said.out
    assert "chans[8]" in run("schema", "--imhex", "--vmport-profile", "QEMU_VMPORT_RPC").out


def test_into_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "hvmctx.h"
    assert run("schema", "--c", "-o", path).status == 0
    assert path.read_text() == c_header.text()
    assert run("schema", "--kaitai", "-o", path).status == 1
    assert run("schema", "--kaitai", "-o", path, "--force").status == 0
    assert path.read_text() == kaitai.text()


@pytest.mark.parametrize(
    "arguments",
    [(), ("--c", "--kaitai"), ("--c", "--release", "5.0"), ("guest.save", "--c"),
     ("--json-schema", "--release", "4.6"), ("--c", "--vmport-profile", "/no/such")],
)  # fmt: skip
def test_usage(arguments: tuple[object, ...], run: Run) -> None:
    status, said = run("schema", *arguments)
    assert status == 2 and said.err.count("\n") == 1 and not said.out
