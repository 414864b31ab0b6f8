from __future__ import annotations

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Buffer, VmportState, to_record
from hvmctx.edit.editor import edit
from hvmctx.errors import HvmctxError, MissingRecordError, UsageError
from hvmctx.image.image import open_image
from tests.builders.contexts import msrs
from tests.builders.emulators import MOUSE, VMPORT, qemu, rpc, with_model
from tests.builders.samples import EXAMPLE, IMAGES, context_bytes
from tests.builders.wrappers import WRAPPED


def paths(pattern: str, image: object = EXAMPLE) -> list[str]:
    with open_image(image) as opened:  # type: ignore[arg-type]
        return list(edit(opened).paths(pattern))


@pytest.mark.parametrize("path", [EXAMPLE, *IMAGES], ids=lambda path: path.name)
def test_every_path_that_is_listed_is_one(path: object) -> None:
    with open_image(path) as image:  # type: ignore[arg-type]
        editor = edit(image)
        every = list(editor.paths())
        assert len(every) == len(set(every)) > 500
        for one in every:
            editor.get(one)


def test_patterns() -> None:
    assert paths("cpu/*.cr?") == [f"CPU/0.cr{n}" for n in (0, 2, 3, 4)]
    assert paths("*.xen_m*") == ["libxc.domain_header.xen_major", "libxc.domain_header.xen_minor"]
    assert paths("CPUID[7,*].e?x") == [f"CPUID[7,0].e{n}x" for n in "abcd"]
    assert "HVM_PARAMS.STORE_PFN" in paths("HVM_PARAMS.*")
    with pytest.raises(MissingRecordError, match="no such values"):
        paths("VMPORT.*")


def test_what_is_within() -> None:
    assert paths("PIT.channels[1]")[:2] == [
        "PIT/0.channels[1].count",
        "PIT/0.channels[1].latched_count",
    ]
    assert len(paths("MTRR/0.msr_mtrr_var")) == 16
    assert paths("config.c_info")[:2] == ["config.c_info.type", "config.c_info.name"]
    assert paths("CPU/0.rip") == ["CPU/0.rip"] and paths("cpu.rip") == ["cpu.rip"]
    assert paths("CPU/0[0:+4]") == ["CPU/0[0:+4]"]
    for path, kind in (("CPU/0.nope", UsageError), ("CPU/9", MissingRecordError)):
        with pytest.raises(kind):
            paths(path)


def test_records_that_no_field_is_known_of() -> None:
    state = VmportState.empty()
    state.guestinfo[b'a"*'] = b"v"
    state.channels[0].send = Buffer(b"abc")
    twice = [Record("TSC_ADJUST", 0, bytes(8)) for _ in range(2)]
    msr = Record("CPU_MSR", 0, msrs((0x48, 0, 1)))
    context = HvmContext([*twice, msr, to_record(state), Record(99, 0, b"x"), Record(0, 0)])
    data = context.to_bytes()
    every = paths("*", data)
    for path in ("TSC_ADJUST/0#2.tsc_adjust", "CPU_MSR/0.msr[0].val", "VMPORT/0.chans[0].send",
                 r'VMPORT/0.guestinfo["a\x22*"]'):  # fmt: skip
        assert path in every
        assert paths(path, data) == [path]
    assert paths("context:99/0", data) == ["context:99/0"]
    with open_image(data) as image:
        assert all(edit(image).get(path) is not None for path in every)


def test_a_damaged_image_has_what_there_is() -> None:
    data = EXAMPLE.read_bytes()
    for cut in (100, 3000, len(data) - len(context_bytes()), len(data) - 50):
        try:
            assert paths("*", data[:cut])
        except HvmctxError as error:
            assert str(error)


def test_what_a_device_model_saved() -> None:
    """Each section of QEMU's file, or its fields; whatever a context is made of."""
    for data, there in (
        (EXAMPLE.read_bytes(), (".emulator_id", ".dma/1", '["0000:00:01.1/ide"]')),
        (with_model(MOUSE), (".vmmouse.status", ".pckbd")),
        (with_model(qemu(("index", b"x"), ("vmport_rpc", rpc().to_bytes()))), ('["index"]',)),
        (with_model(VMPORT), ('.VMPORT/0.guestinfo["guestinfo.ip"]', ".index")),
        (with_model(context_bytes()), (".CPU/0.rip", ".PIC/1.elcr")),
        (with_model(MOUSE, WRAPPED["xapi"]), (".vmmouse.status",)),
    ):
        with open_image(data) as image:
            editor = edit(image)
            found = list(editor.paths("EMULATOR_CONTEXT*"))
            assert len(found) == len(set(found))
            assert {f"EMULATOR_CONTEXT/0{one}" for one in there} <= set(found)
            assert all(editor.get(path) is not None for path in found)
    assert paths("EMULATOR_CONTEXT/0.dma*") == [f"EMULATOR_CONTEXT/0.dma{n}" for n in ("", "/1")]
