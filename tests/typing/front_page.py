"""What a user of the front page writes, with what type checkers must make of it: checked by
mypy --strict and basedpyright (`tests/test_typing.py`), and run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=error
from __future__ import annotations

from typing import TYPE_CHECKING

from hvmctx import (
    Editor,
    FieldError,
    Finding,
    FormatError,
    Guest,
    HvmContext,
    HvmctxError,
    Image,
    InputError,
    LimitError,
    Limits,
    Machine,
    MissingPageError,
    MissingRecordError,
    Record,
    Release,
    RestoreRefused,
    Rule,
    TranslationError,
    UsageError,
    Verdict,
    VmportState,
    diff,
    dumps_json,
    edit,
    loads_json,
    open_image,
    repair,
    verify,
    would_restore,
)
from hvmctx.abi.x86 import hvm_hw_pit

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: object, _: object) -> object:
        return value


def main(path: str) -> None:
    with open_image(path, limits=Limits(batches=100)) as image:
        assert_type(image, Image)
        assert_type(image.limits.kept, int)
        assert_type(image.params, dict[int, int])
        assert_type(image.release, Release)
        assert_type(image.policy.leaves, list[tuple[int, int, int, int, int, int]])
        assert_type(image.emulators[0].index, int)
        assert_type(image.memory.read(0x1000, 16), bytes)
        assert_type([problem.offset for problem in image.problems], list[int])
        context = assert_type(image.context, HvmContext)
        assert_type(context["CPU", 0].struct.rip, int)
        assert_type(context["RTC"].struct.cmos_data[3], int)
        assert_type(context[hvm_hw_pit, 0].struct.channels[1].count, int)
        assert_type(context[3], Record)
        assert_type([record.name for record in context], list[str])
        assert_type(context.rtc.cmos_index, int)
        assert_type(context.rtc.cmos_data[3], int)
        assert_type(context.ioapic.redirtbl[2].fields.vector, int)
        for vcpu in context.vcpus:
            assert_type(vcpu.id, int)
            assert_type(vcpu.cpu.rip, int)
            vcpu.cpu.rip += 1
            if ("CPU_MSR", vcpu.id) in context:
                assert_type([msr.index for msr in vcpu.cpu_msr.msr], list[int])
        assert_type(context.vcpus[0].cpu.pending_valid, int)
        assert_type(HvmContext.from_bytes(context.to_bytes()), HvmContext)
        assert_type(Record.from_bytes(context["CPU", 0].to_bytes()).instance, int)
        assert_type(VmportState.from_bytes(b"").to_bytes(), bytes)
        assert_type(verify(image, releases=(Release("4.17"),)), list[Finding])
        assert_type(would_restore(image, Release("4.17"), Machine()), Verdict)
        mended: Verdict = repair(image, "4.17").verdict
        steps: list[str] = [str(edit) for edit in repair(image, "4.17")]
        assert mended.accepted and steps == []
        assert_type(Guest.of_image(image).vcpus, int)
        editor = assert_type(edit(image), Editor)
        editor.set("CPU/0.rax", 0x1234)
        assert_type(str(next(diff(image, editor.context))), str)
        assert_type(loads_json(dumps_json(context)), bytes)
        try:
            image.memory.read(1 << 50, 1)
        except MissingPageError as error:
            assert_type(error.pfn, int)
        try:
            assert_type(image.vcpus[0].read(image.vcpus[0].cpu.rip, 1), bytes)
        except TranslationError as error:
            assert_type(error.entry_gpa, int | None)


def refused(path: str) -> None:
    """What a checker must find: each of these lines has an error, and is never run."""
    with open_image(path) as image:
        print(image.contxt)  # type: ignore[attr-defined]
        print(image.context.rtcc)  # type: ignore[attr-defined]
        print(image.context.vcpus[0].cpuu)  # type: ignore[attr-defined]
        image.context.vcpus[0].cpu.rip = "0x1000"  # type: ignore[assignment]
        print(image.context.vcpus[0].cpu.rpi)  # type: ignore[attr-defined]
        image.context.rtc.cmos_idx = 1  # type: ignore[assignment]
        image.context["CPU", "0"]  # type: ignore[index]
        print(image.context["CPU", 0].struct.rpi)  # type: ignore[attr-defined]
        Release(4.17)  # type: ignore[arg-type]


def names(error: HvmctxError, verdict: Verdict, rule: Rule) -> None:
    if isinstance(error, LimitError):
        assert_type(error.limit, str)
    elif isinstance(error, FormatError):
        assert_type(error.offset, int)
    elif isinstance(error, RestoreRefused):
        assert_type(error.errno, str | None)
    elif isinstance(error, (FieldError, InputError, MissingRecordError, UsageError)):
        assert_type(str(error), str)
    assert_type(verdict.accepted, bool)
    assert_type(rule.id, str)
