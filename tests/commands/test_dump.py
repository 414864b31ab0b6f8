"""dump as a user types it."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from hvmctx.abi import vmport
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import VmportState
from tests.builders.running import TOOL, Run, bare
from tests.builders.samples import (
    CONTEXTS,
    DATA,
    EXAMPLE,
    context_bytes,
    domid_of,
    expected_text,
    release_of,
)
from tests.builders.streams import SMALL
from tests.builders.vmport import OTHER

ASTRAY = ("old_cpu_1024_misparse", "unknown_type_length_past_end")


@pytest.mark.parametrize("path", CONTEXTS, ids=lambda path: "/".join(path.parts[-3:]))
def test_dump_of_every_sample(path: Path, run: Run) -> None:
    expected = expected_text(path)
    result = run(path, "--release", release_of(path), "--domid", domid_of(expected))
    if path.stem not in ASTRAY:
        assert result.out == expected
    status = path.with_suffix(".rc.txt")
    if status.exists():
        assert result.status == int(status.read_text())
    if result.status:
        assert re.fullmatch(
            r"hvmctx: context: offset 0x[0-9a-f]+: .*: found .*, expected .*\n", result.err
        )


@pytest.mark.parametrize(
    ("tag", "same"),
    [("RELEASE-4.1.6.1", "4.1"), ("4.1.6.1", "4.1"), ("RELEASE-4.17.3", "4.17"),
     ("4.0.0", "4.0"), ("RELEASE-4.12.0", "4.12"), ("staging", "newest"),
     ("xen-RELEASE-4.16.1", "4.16")],
)  # fmt: skip
def test_release_takes_the_name_of_every_tag(tag: str, same: str, run: Run) -> None:
    result = run("dump", EXAMPLE, "--release", tag)
    assert (result.status, result.err) == (0, "")
    assert result.out == run("dump", EXAMPLE, "--release", same).out
    assert result.out != run("dump", EXAMPLE, "--release", "4.11").out


@pytest.mark.parametrize("tag", ["4.1.6.2.1", "RELEASE-4.99.0", "RELEASE-", "4.17.x"])
def test_no_tag(tag: str, run: Run) -> None:
    result = run("dump", EXAMPLE, "--release", tag)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)


def test_dump_is_the_default_command() -> None:
    for arguments in ([EXAMPLE], ["dump", EXAMPLE]):
        done = bare(*arguments)
        assert done.returncode == 0 and not done.stderr
        assert done.stdout.startswith(b"HVM save record for domain 0\nEntry 0: type 1 instance 0")
    assert bare("-", stdin=EXAMPLE.read_bytes()).stdout == done.stdout


def test_the_dialect_is_that_of_the_image() -> None:
    """As its own xen-hvmctx would print it; a bare context names no release."""
    own = bare(EXAMPLE).stdout
    for name in ("auto", "4.17"):
        assert bare("--release", name, EXAMPLE).stdout == own
    newest = bare("--release", "newest", EXAMPLE).stdout
    assert newest != own and b"xmm0  0x" in newest and b"xmm00 0x" in own
    context = DATA / "images" / "hvm1.hvmctx.bin"
    assert bare(context).stdout == bare("--release", "newest", context).stdout
    assert b"xmm0  0x" in bare(context).stdout
    genuine = (DATA / "images" / "hvm1.hvmctx.txt").read_text().splitlines()
    changed = [line.split()[0] for line in genuine if line not in own.decode().splitlines()]
    assert changed == ["HVM", "tsc", "ACPI"], "what passed between the image and the text"


@pytest.mark.parametrize("form", ["json", "ndjson", "table"])
def test_forms(form: str, run: Run) -> None:
    result = run("dump", EXAMPLE, "--format", form, "--record", "PIC/1")
    assert result.status == 0 and "PIC" in result.out and "IOAPIC" not in result.out


def test_selection(run: Run) -> None:
    assert run(EXAMPLE, "--record", "cpu").out.count("Entry") == 1
    assert run(EXAMPLE, "--record", "3").out.count("Entry") == 2
    assert run(EXAMPLE, "--record", "3/1").out.count("Entry") == 1
    assert "rtc_offset" in run(EXAMPLE, "--all").out
    for wrong in ("NOPE", "PIC/x", "²", "PIC/²", "9" * 5000, f"PIC/{'9' * 5000}"):
        result = run(EXAMPLE, "--record", wrong)
        assert result.status == 2 and result.err.count("\n") == 1


def test_more_than_one_selection(run: Run) -> None:
    result = run(EXAMPLE, "--record", "CPU/0", "--record", "PIC")
    assert result.status == 0 and not result.err
    assert [line.split()[3] for line in result.out.splitlines() if "Entry" in line] == list("233")
    for form in ("json", "ndjson", "table"):
        result = run(EXAMPLE, "--format", form, "--record", "CPU", "--record", "PIC/1")
        assert "CPU" in result.out and result.out.count("PIC") == 1


@pytest.mark.parametrize("form", ["text", "json", "ndjson", "table"])
def test_a_selection_of_nothing_is_said(form: str, run: Run) -> None:
    for absent in ("CPU/9", "999999", "viridian_vcpu", "VMPORT", "3/2"):
        result = run(EXAMPLE, "--format", form, "--record", absent)
        assert result.status == 1 and "Entry" not in result.out
        assert result.err == f"hvmctx: the context has no {absent} record\n"
    result = run(EXAMPLE, "--format", form, "--record", "PIC/1", "--record", "PIC/2")
    assert result.status == 1 and result.err == "hvmctx: the context has no PIC/2 record\n"
    assert result.out == run(EXAMPLE, "--format", form, "--record", "PIC/1").out


def test_a_selected_record_that_is_cut_is_not_absent(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(context_bytes()[:2000])
    for form in ("text", "table"):
        result = run(path, "--record", "LAPIC_REGS/0", "--format", form)
        assert result.status == 1 and "1024" in result.out
        assert "the body is cut off" in result.err and result.err.count("\n") == 1


def test_domids(run: Run) -> None:
    for domid in (0, 7, 32767):
        assert run(EXAMPLE, "--domid", domid).out.startswith(
            f"HVM save record for domain {domid}\n"
        )


def test_damaged_images_are_dumped_as_far_as_they_go(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(SMALL[:-20])
    result = run(path)
    assert result.status == 1 and result.out.endswith("type 0 instance 0, length 0\n")
    assert result.err.startswith("hvmctx: libxl: offset 0x") and result.err.count("\n") == 1
    path.write_bytes(SMALL[: SMALL.index(context_bytes()) + 2000])
    result = run(path)
    assert result.status == 1
    assert result.out.endswith("Entry 6: type 6 instance 0, length 1024\n")
    assert "body: found 2000 bytes, expected 4112" in result.err and result.err.count("\n") == 1
    path.write_bytes(SMALL[: SMALL.index(context_bytes()) - 20])
    result = run(path)
    assert result.status == 1 and not result.out
    assert "no HVM_CONTEXT record" in result.err
    odd = SMALL.replace(context_bytes(), context_bytes()[:-8] + struct.pack("<HHI", 19, 0, 1))
    path.write_bytes(odd)
    result = run(path)
    at = odd.index(context_bytes()[:-8]) + 4112
    assert result.status == 1 and result.err.startswith(f"hvmctx: context: offset {at:#x}: ")


def test_pv_and_legacy(run: Run) -> None:
    result = run(DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin")
    assert result.status == 1 and "a PV guest" in result.err
    assert run("info", DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin").status == 0
    result = run(DATA / "streams" / "legacy_hvm_w64.in.bin")
    assert result.status == 1 and "convert it first" in result.err


def test_empty_input() -> None:
    done = bare("/dev/null")
    assert done.returncode == 1
    assert done.stdout == b"HVM save record for domain 0\n"
    assert b"the context is empty: found 0 bytes, expected a descriptor of 8" in done.stderr


def test_length_that_makes_the_genuine_tool_loop_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.write_bytes(struct.pack("<HHI", 0x22, 0, 0xFFFFFFF8))
    done = bare(path)
    assert done.returncode == 1 and done.stdout.count(b"Entry") == 1
    assert b"found 0 bytes, expected 4294967288" in done.stderr


@pytest.mark.parametrize("cut", range(0, 62469, 1171))
def test_truncated_example(cut: int, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(EXAMPLE.read_bytes()[:cut])
    result = run(path)
    assert result.status == 1
    assert all(line.startswith("hvmctx: ") for line in result.err.splitlines())
    assert 1 <= result.err.count("\n") <= 2


HEAVY = {"argparse", "re", "inspect", "dataclasses", "typing", "json", "enum", "gettext",
         "collections", "importlib.metadata", "lzma", "rich", "dataclasses_json"}  # fmt: skip


@pytest.mark.parametrize("arguments", [[EXAMPLE], [DATA / "images" / "hvm1.hvmctx.bin"]])
def test_a_dump_imports_nothing_heavy(arguments: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", TOOL, *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hvmctx.render.text" in imported
    assert not imported & HEAVY
    assert "hvmctx.abi.vmport" not in imported


def test_dump(busy_context: Path, run: Run) -> None:
    status, said = run(busy_context)
    assert status == 0 and 'guestinfo "guestinfo.ip" = "10.0.0.1" (12 + 8)' in said.out
    status, said = run(busy_context, "--release", "4.17")
    assert status == 0 and "Don't understand type 21" in said.out
    status, said = run(busy_context, "--release", "4.17", "--all")
    assert "    VMPORT: version" in said.out
    status, said = run(busy_context, "--record", "VMPORT", "--format", "json")
    fields = json.loads(said.out)["context"]["records"][0]["fields"]
    assert fields["guestinfo"][0] == ["guestinfo.ip", "10.0.0.1"]


def test_dump_with_another_profile(busy_context: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "profile.json"
    path.write_text(OTHER.to_json())
    other = VmportState.empty(OTHER)
    other.guestinfo[b"k"] = b"other"
    made = Record(VMPORT_TYPECODE, 0, other.to_bytes(OTHER))
    busy_context.write_bytes(HvmContext([made, Record(0, 0)]).to_bytes())
    status, said = run(busy_context, "--vmport-profile", path)
    assert status == 0 and 'guestinfo "k" = "other"' in said.out
    assert vmport.used() is XEN_4_5_V6, "the next command has the default again"
    status, said = run("to-json", busy_context, "-o", "-", "--vmport-profile", path)
    (record, _) = json.loads(said.out)["context"]["records"]
    assert status == 0 and len(record["fields"]["channels"]) == 8
    (tmp_path / "json").write_text(said.out)
    again = tmp_path / "again"
    assert run("from-json", tmp_path / "json", "-o", again, "--vmport-profile", path)[0] == 0
    assert again.read_bytes() == busy_context.read_bytes()
    assert run("from-json", tmp_path / "json", "-o", tmp_path / "default")[0] == 1
    status, said = run(busy_context, "--vmport-profile", "nope")
    assert status == 2 and "expected XEN_4_5_V6, QEMU_VMPORT_RPC or a file" in said.err


def test_decode(run: Run, tmp_path: Path) -> None:
    lines = run("dump", EXAMPLE, "--decode").out.splitlines()
    at = lines.index("PMTIMER/0: 8 bytes at 0xec8")
    assert lines[at + 1 : at + 5] == [
        "    tmr_val   0xe8808a0  68.1081 s at 3.579545 MHz", "    pm1a_sts  0x0",
        "    pm1a_en   0x0", "MTRR/0: 240 bytes at 0xed8",
    ]  # fmt: skip
    one = run("dump", EXAMPLE, "--decode", "--record", "PIC/1").out.splitlines()
    assert one[0].startswith("PIC/1: ") and not any(line[0] != " " for line in one[1:])
    document = run("dump", EXAMPLE, "--decode", "--format", "json").out
    record = json.loads(document)["context"]["records"][-3]
    assert record["name"] == "VMCE_VCPU" and "fields" in record
    assert record["decoded"][0] == {"path": "caps", "value": 2, "words": "2 banks"}
    path = tmp_path / "decoded.json"
    path.write_text(document)
    done = run("from-json", path, "-o", tmp_path / "again")
    run("extract", EXAMPLE, "-o", tmp_path / "context")
    assert done.status == 0
    assert (tmp_path / "again").read_bytes() == (tmp_path / "context").read_bytes()
    assert run("dump", EXAMPLE, "--decode", "--all").status == 2
    table = run("dump", EXAMPLE, "--decode", "--format", "table", "--record", "VMCE_VCPU").out
    assert table.splitlines()[:3] == [
        "VMCE_VCPU/0", "field           value  meaning", "caps            0x2    2 banks",
    ]  # fmt: skip


def test_decode_prints_vmport_records_as_ever(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "context"
    path.write_bytes(
        HvmContext([Record(21, 0, b"short"), Record(99, 0, b"x"), Record(0, 0)]).to_bytes()
    )
    text = run("dump", path, "--decode").out
    assert "VMPORT: 5 bytes, too short" in text and "understand type 99" in text
    assert "END/0: 0 bytes" in text
