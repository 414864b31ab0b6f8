from __future__ import annotations

import doctest
import io
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams, x86
from hvmctx.abi.declare import declared
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import VmportState, to_record
from hvmctx.edit import editor as editing
from hvmctx.edit.editor import edit
from hvmctx.errors import (
    FieldError,
    FormatError,
    HvmctxError,
    InputError,
    MissingRecordError,
    UsageError,
)
from hvmctx.image.image import open_image
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import SMALL, Pipe, libxc_head, libxc_stream, page_data, record, word

KINDS = [known for known in declared.values() if known.size]


def edited(data: bytes, *settings: tuple[str, int | bytes | str]) -> bytes:
    with open_image(data) as image:
        editor = edit(image)
        for path, value in settings:
            editor.set(path, value)
        out = io.BytesIO()
        editor.write(out)
    return out.getvalue()


def got(data: bytes, path: str) -> int | bytes | str:
    with open_image(data) as image:
        return edit(image).get(path)


def full_context() -> bytes:
    state = VmportState.empty()
    state.guestinfo[b"a=b"] = b"x"
    entries = [Record(known, 0, bytes(known.size)) for known in KINDS]
    msr = Record(x86.CPU_MSR, 1, struct.pack("<IIIIQ", 1, 0, 0x48, 0, 5))
    xsave = Record(x86.CPU_XSAVE, 1, bytes(700))
    return HvmContext([*entries, msr, xsave, to_record(state), Record(0, 0)]).to_bytes()


@given(st.sampled_from(KINDS), st.data())
def test_every_field_of_every_record(known: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(known.layout.paths())))
    slot = known.layout.locate(path)
    if slot.is_bytes:
        value: Any = data.draw(st.binary(min_size=slot.size, max_size=slot.size))
        text = value.hex()
    else:
        low = -(1 << slot.width - 1) if slot.signed else 0
        value = data.draw(st.integers(low, low + (1 << slot.width) - 1))
        text = data.draw(st.sampled_from([str(value), f"{value:#x}"]))
    before = full_context()
    after = edited(before, (f"{known.name}/0.{path}", text))
    assert got(after, f"{known.name.lower()}.{path}") == value
    assert len(after) == len(before)
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    assert len(changed) <= slot.size


def test_only_what_was_set_changes() -> None:
    before = EXAMPLE.read_bytes()
    after = edited(before, ("CPU/0.rax", "0x1234"), ("HVM_PARAMS.STORE_PFN", "7"))
    places = [at for at in range(len(before)) if before[at] != after[at]]
    at = before.index(context_bytes()[:24]) + 40 + 512
    assert [place for place in places if place < at + 8] == [at, at + 1]
    assert got(after, "CPU.rax") == 0x1234 and got(after, "hvm_params.1") == 7
    with open_image(after) as image:
        assert image.complete and not image.problems


def test_variable_parts_and_windows() -> None:
    data = full_context()
    assert got(data, "CPU_MSR/1.msr[0].index") == 0x48
    after = edited(data, ("CPU_MSR/1.msr[0].val", "9"), ("CPU_XSAVE/1.extended[99]", "0xff"))
    assert got(after, "CPU_MSR/1.msr[0].val") == 9
    assert got(after, "CPU_XSAVE/1.extended[99]") == 255
    after = edited(data, ("LAPIC_REGS.data[0x20:+4]", "0x01000000"))
    assert got(after, "LAPIC_REGS.data[0x23]") == 1


def test_vmport() -> None:
    data = full_context()
    assert got(data, "VMPORT.guestinfo[a=b]") == b"x"
    after = edited(
        data, ("VMPORT.guestinfo[a=b]", '"longer"'), ("VMPORT.guestinfo[new]", "0001"),
        ("VMPORT.chans[1].proto_num", "RPCI"), ("VMPORT.ping_time", "5"),
    )  # fmt: skip
    with open_image(after) as image:
        state = VmportState.from_bytes(image.context.records(21)[0].body)
    assert state.guestinfo.pairs == [(b"a=b", b"longer"), (b"new", b"\0\1")]
    assert state.channels[1].protocol == "RPCI" and state.ping_time == 5


def test_length_changes_move_the_rest() -> None:
    state = VmportState.empty()
    context = HvmContext([to_record(state), Record(0, 0)]).to_bytes()
    image = SMALL.replace(
        struct.pack("<II", 9, 4112) + context_bytes(),
        struct.pack("<II", 9, len(context)) + context,
    )
    after = edited(image, ("VMPORT.guestinfo[k]", '"abc"'))
    assert len(after) == len(image) + 8  # six bytes of entry, padded to eight
    with open_image(after) as opened:
        assert opened.complete and not opened.problems and not opened.notes
        assert opened.params == {17: 5} and opened.emulators[0].emulator_id == 2
        state = VmportState.from_bytes(opened.context.records(21)[0].body)
        assert state.guestinfo.pairs == [(b"k", b"abc")]


@pytest.mark.parametrize(
    ("path", "text", "kind", "reason"),
    [
        ("", "1", UsageError, "expected RECORD.FIELD"),
        ("CPU", "1", FieldError, "neither hex digits"),
        ("CPU/x.rip", "1", UsageError, "'x' is not an instance"),
        ("NOPE.rip", "1", UsageError, "unknown record type"),
        ("CPU.nope", "1", UsageError, "no field 'nope'"),
        ("CPU/9.rip", "1", MissingRecordError, "no CPU/9 record"),
        ("CPU.rip", "x", FieldError, "'x' is not a number"),
        ("CPU.rip", "-1", FieldError, "rip is a 64-bit field"),
        ("CPU.flags", "0x100000000", FieldError, "flags is a 32-bit field: 0x100000000 does not"),
        ("CPU.fpu_regs", "00", FieldError, "exactly 512 bytes"),
        ("CPU.fpu_regs", "zz", FieldError, "neither hex digits nor text"),
        ("HVM_PARAMS.nope", "1", UsageError, "unknown parameter"),
        ("HVM_PARAMS.99", "1", MissingRecordError, "does not set parameter 99"),
        ("HVM_PARAMS.17", "-1", FieldError, "^HVM_PARAMS.17 is a 64-bit field: -1 does not fit"),
        ("CPU_MSR.msr[0].val", "1", MissingRecordError, "no CPU_MSR/0"),
    ],
)
def test_what_cannot_be_set(path: str, text: str, kind: type[HvmctxError], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        edited(EXAMPLE.read_bytes(), (path, text))


@pytest.mark.parametrize(
    "path",
    [
        "CPU_MSR/1.msr[1].val",
        "CPU_MSR/1.msr[x].val",
        "CPU_MSR/1.msr[0",
        "CPU_MSR/1.msr[²].val",
        f"CPU_MSR/1.msr[{'9' * 5000}].val",
        f"CPU/{'9' * 5000}.rip",
        f"HVM_PARAMS.{'9' * 5000}",
    ],
)
def test_elements_that_are_not_there(path: str) -> None:
    with pytest.raises(UsageError):
        got(full_context(), path)


@pytest.mark.parametrize(
    ("path", "size"), [("CPU_MSR/1.msr[1].val", 24), ("CPU_XSAVE/1.extended[100]", 700)]
)
def test_elements_beyond_a_variable_part(path: str, size: int) -> None:
    beyond = f"^{re.escape(path)} is beyond the record's {size} bytes$"
    with pytest.raises(UsageError, match=beyond):
        got(full_context(), path)
    with pytest.raises(UsageError, match=beyond):
        edited(full_context(), (path, "1"))


def test_short_records() -> None:
    context = HvmContext([Record(x86.LAPIC, 0, bytes(24)), Record(0, 0)]).to_bytes()
    assert got(context, "LAPIC.pending_esr") == 0
    with pytest.raises(FieldError, match="pending_esr is beyond the record's 24 bytes"):
        edited(context, ("LAPIC.pending_esr", "1"))


@pytest.mark.parametrize("size", [1016, 1020, 1024, 1028, 1031, 1032, 1040])
def test_what_is_set_in_old_cpu_records_is_what_is_got(size: int) -> None:
    """The 1016 bytes of before 3.4 have their last fields elsewhere."""
    body = bytes(at * 7 & 0xFF for at in range(size))
    context = HvmContext([Record(x86.CPU, 0, body), Record(0, 0)]).to_bytes()
    held = 0
    for path in x86.CPU.layout.paths():
        before = got(context, f"CPU.{path}")
        assert not isinstance(before, str)
        other = ("00" if before[0] else "01") * len(before) if isinstance(before, bytes) else (
            str(before ^ 1)
        )  # fmt: skip
        try:
            changed = edited(context, (f"CPU.{path}", other))
        except FieldError:
            slot = x86.CPU.layout.locate(path)
            assert path in ("msr_tsc_aux", "flags", "pad0") or slot.offset + slot.size > size
            continue
        held += 1
        found = got(changed, f"CPU.{path}")
        assert (found.hex() if isinstance(found, bytes) else str(found)) == other
        changes = sum(a != b for a, b in zip(changed, context))
        assert len(changed) == len(context) and 0 < changes <= (
            len(before) if isinstance(before, bytes) else 1
        )
    assert held > 70


@given(st.text(max_size=20), st.text(max_size=6))
def test_any_path(path: str, text: str) -> None:
    try:
        got(SMALL, path)
    except HvmctxError as error:
        assert str(error)
    try:
        edited(SMALL, (path, text))
    except HvmctxError as error:
        assert str(error)


@pytest.mark.parametrize("end", [b"", record(0)])
def test_parameters_of_the_last_checkpoint(end: bytes) -> None:
    """Those that a restore takes, as info and diff have them."""

    def params(value: int) -> bytes:
        return record(10, struct.pack("<II2Q", 1, 0, 17, value))

    data = libxc_head() + record(16) + params(1) + record(14) + params(2) + end
    assert got(data, "HVM_PARAMS.17") == 1
    with open_image(edited(data, ("HVM_PARAMS.17", "9"))) as image:
        assert image.params == {17: 9}


def test_the_example_of_the_docstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLE.parent)
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(editing)
    assert failed == 0 and tried >= 3
    with open_image("mutant.save") as image:
        assert image.context.vcpus[0].cpu.rax == 0x1234
        assert image.params[1] == image.params[17]


def test_values_as_numbers_and_bytes() -> None:
    data = full_context()
    settings = (("CPU/0.rax", 5), ("CPU/0.fpu_regs", bytes(range(256)) * 2), ("RTC.rtc_offset", -7))
    after = edited(data, *settings)
    for path, value in settings:
        assert got(after, path) == value
    assert got(edited(data, ("VMPORT.guestinfo[k]", b"v")), "VMPORT.guestinfo[k]") == b"v"
    for path, wrong in (("CPU/0.rax", b"5"), ("CPU/0.fpu_regs", 5), ("VMPORT.guestinfo[k]", 5)):
        with pytest.raises(FieldError):
            edited(data, (path, wrong))
    with pytest.raises(FieldError, match="64-bit field"):
        edited(SMALL, ("HVM_PARAMS.17", b"5"))


def test_what_is_set_is_got_and_the_image_stays_as_it_is() -> None:
    with open_image(SMALL) as image:
        one, other = edit(image), edit(image)
        before = one.get("CPU.rip")
        one.set("CPU.rip", 1)
        one.set("HVM_PARAMS.17", 9)
        one.context.vcpus[0].cpu.rbx = 3
        assert (one.get("CPU.rip"), one.get("CPU.rbx"), one.get("HVM_PARAMS.17")) == (1, 3, 9)
        assert other.get("CPU.rip") == before and other.get("HVM_PARAMS.17") == 5
        assert image.context.vcpus[0].cpu.rip == before and not other.edits()


def test_records_come_and_go() -> None:
    out = io.BytesIO()
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        editor.add("TSC_ADJUST/1", bytes(8))
        editor.add("tsc_adjust/2", "01" * 8)
        editor.remove("PMTIMER")
        with pytest.raises(MissingRecordError):
            editor.get("PMTIMER.tmr_val")
        editor.write(out)
    with open_image(out.getvalue()) as image:
        assert image.complete and not image.problems and not image.notes
        context = image.context
        assert not context.records("PMTIMER")
        assert [bytes(record.body) for record in context.records("TSC_ADJUST")][-2:] == [
            bytes(8), b"\1" * 8,
        ]  # fmt: skip


def test_parameters_come_and_go() -> None:
    with open_image(SMALL) as image:
        editor = edit(image)
        editor.add("HVM_PARAMS.VIRIDIAN", "1")
        editor.remove("HVM_PARAMS.CONSOLE_PFN")
        out = io.BytesIO()
        editor.write(out)
    with open_image(out.getvalue()) as image:
        assert image.params == {9: 1} and image.complete and not image.problems


def test_guestinfo_keys_go(vmport: Path) -> None:
    with open_image(vmport) as image:
        editor = edit(image)
        editor.set("VMPORT.guestinfo[twice]", b"1")
        before = editor.context.to_bytes()
        editor.set("VMPORT.guestinfo[gone]", b"2")
        editor.remove("vmport.guestinfo[gone]")
        assert editor.context.to_bytes() == before
        for path, kind in (
            ("VMPORT.guestinfo[gone]", MissingRecordError),
            ("VMPORT.guestinfo_jumbo[twice]", MissingRecordError),
            ("VMPORT.ping_time", UsageError),
            ("VMPORT/1.guestinfo[twice]", MissingRecordError),
        ):
            with pytest.raises(kind):
                editor.remove(path)


@pytest.mark.parametrize(
    ("path", "value", "kind", "reason"),
    [
        ("CPU", b"", UsageError, "has such a record already"),
        ("CPU/0.rip", 1, UsageError, "has such a record already"),
        ("HVM_PARAMS.17", 1, UsageError, "sets it already"),
        ("HVM_PARAMS.nope", 1, UsageError, "unknown parameter"),
        ("HVM_PARAMS.9", -1, FieldError, "^HVM_PARAMS.9 is a 64-bit field: -0x1 does not fit"),
        ("HVM_PARAMS.9", 1 << 64, FieldError, "HVM_PARAMS.9 is .*: 0x10000000000000000 does"),
        ("NOPE", b"", UsageError, "unknown record type"),
        ("CPU/9", 1, FieldError, "takes bytes"),
        ("CPU/9", "x", FieldError, "neither hex digits"),
    ],
)
def test_what_cannot_be_added(
    path: str, value: int | bytes | str, kind: type[HvmctxError], reason: str
) -> None:
    with open_image(SMALL) as image, pytest.raises(kind, match=reason):
        edit(image).add(path, value)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("CPU/9", MissingRecordError),
        ("CPU.rip", UsageError),
        ("HVM_PARAMS.9", MissingRecordError),
        ("NOPE", UsageError),
    ],
)
def test_what_cannot_be_removed(path: str, kind: type[HvmctxError]) -> None:
    with open_image(SMALL) as image, pytest.raises(kind):
        edit(image).remove(path)


def test_no_parameter_is_added_where_there_is_no_record_of_them() -> None:
    with open_image(full_context()) as image, pytest.raises(MissingRecordError):
        edit(image).add("HVM_PARAMS.17", 1)


def test_a_whole_context_and_then_one_value() -> None:
    """One store: what is put is what is set in."""
    with open_image(SMALL) as image:
        editor = edit(image)
        editor.put("record:HVM_CONTEXT", full_context())
        editor.set("CPU/0.rip", 7)
        assert editor.get("CPU_MSR/1.msr[0].val") == 5
        assert bytes(editor.take("record:HVM_CONTEXT")) == editor.context.to_bytes()
        editor.put("record:HVM_PARAMS", struct.pack("<II2Q", 1, 0, 4, 2))
        editor.set("HVM_PARAMS.4", 3)
        out = io.BytesIO()
        editor.write(out)
    with open_image(out.getvalue()) as image:
        assert image.params == {4: 3} and image.context.vcpus[0].cpu.rip == 7
        editor = edit(image)
        editor.put("hvm-context", context_bytes())
        assert editor.take("hvm-context") == context_bytes()


def test_a_path_to_write_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_image(SMALL) as image:
        editor = edit(image)
        editor.write(out)
        assert out.read_bytes() == SMALL
        editor.set("CPU.rip", 1)
        with pytest.raises(InputError, match="exists"):
            editor.write(str(out))
        editor.write(str(out), force=True)
    assert got(out.read_bytes(), "CPU.rip") == 1
    with open_image(SMALL[:-40]) as image:
        cut = edit(image)
        cut.write(tmp_path / "cut")
    assert (tmp_path / "cut").read_bytes() == SMALL[:-40]


def test_of_a_pipe_values_are_got_and_nothing_is_written(tmp_path: Path) -> None:
    with open_image(Pipe(SMALL)) as image:
        editor = edit(image)
        assert editor.get("HVM_PARAMS.17") == 5 and editor.get("CPU.rip") == got(SMALL, "CPU.rip")
        with pytest.raises(InputError, match="cannot be read twice"):
            editor.write(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_context_that_is_cut_off_is_read_and_not_replaced() -> None:
    data = EXAMPLE.read_bytes()
    cut = data[: data.index(context_bytes()[:24]) + 3000]
    assert got(cut, "CPU.rip") == got(data, "CPU.rip")
    with open_image(cut) as image:
        editor = edit(image)
        editor.set("CPU.rip", 1)
        with pytest.raises(FormatError):
            editor.write(io.BytesIO())


def test_a_record_that_is_not_there_is_named() -> None:
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        with pytest.raises(MissingRecordError, match=r"^the image has no VERIFY record$"):
            editor.take("record:VERIFY")
        with pytest.raises(MissingRecordError, match="no X86_TSC_INFO/1 record; it has 1"):
            editor.take("record:X86_TSC_INFO/1")


def test_a_page_batch_is_replaced_once() -> None:
    """Though it is another object each time that somebody asks for it."""
    batch, other = page_data(word(1, 0xF))[8:], page_data(word(2, 0xF))[8:]
    with open_image(libxc_stream(record(streams.LIBXC_PAGE_DATA, batch))) as image:
        editor = edit(image)
        for body in (batch, other):
            editor.put("record:PAGE_DATA", body)
            assert editor.take("record:PAGE_DATA") == body
        assert len(editor.edits()) == 1
