"""Repairs of whole images: the edits, the verdict on the image with them, and the image written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import hvmctx
from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.edit.editor import edit
from hvmctx.errors import InputError
from hvmctx.image.image import Image, open_image
from hvmctx.mend.repair import as_command, repair
from hvmctx.restore.guest import Guest
from hvmctx.restore.host import Host
from hvmctx.restore.image import would_restore
from hvmctx.restore.rules import Change
from tests.builders.samples import EXAMPLE, context_bytes
from tools.policies import held


def altered(**values: int | bytes) -> bytes:
    """The example with other values: path (`__` for the dots) -> value."""
    out = io.BytesIO()
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        for path, value in values.items():
            editor.set(path.replace("__", "."), value)
        editor.write(out)
    return out.getvalue()


def test_edits_of_several_records_of_an_image(tmp_path: Path) -> None:
    data = altered(PIT__speaker_data_on=2, PCI_LINK__pad0=b"\1\0\0\0", CPU__msr_tsc_aux=1 << 40)
    with open_image(data) as image:
        mended = repair(image, "4.20")
        mended.write(tmp_path / "mended.save")
        with pytest.raises(InputError):
            mended.write(tmp_path / "mended.save")
        mended.write(tmp_path / "mended.save", force=True)
        assert not would_restore(image, "4.20").accepted  # it stays as it is
    assert [(edit.rule, str(edit), edit.before) for edit in mended] == [
        ("pci-link-pad0", "PCI_LINK/0.pad0=00000000", b"\1\0\0\0"),
        ("pit-range", "PIT/0.speaker_data_on=0x1", 2),
        ("cpu-tsc-aux", "CPU/0.msr_tsc_aux=0x0", 1 << 40),
    ]
    assert mended.verdict.accepted and mended[0].where == "PCI_LINK/0"
    with open_image(tmp_path / "mended.save") as image, open_image(EXAMPLE) as first:
        assert would_restore(image, "4.20").accepted
        assert [str(found) for found in hvmctx.diff(first, image)] == [
            "PIT/0.speaker_data_on: 0x0 -> 0x1"
        ]


def test_what_cannot_be_repaired() -> None:
    with open_image(altered(CPU__cr0=0x80000010, PIT__pad0=1)) as image:
        mended = repair(image, "4.20")
    assert [str(edit) for edit in mended] == ["PIT/0.pad0=0x0"]
    assert mended.verdict.rule == "cpu-cr0"
    with open_image(EXAMPLE.read_bytes()[:-300]) as image:
        mended = repair(image, "4.20")
    assert not mended and mended.verdict.rule == "stream-damaged"


def test_a_parameter_that_a_release_lacks() -> None:
    with open_image(EXAMPLE) as image:
        record = image.last("libxc", streams.LIBXC_HVM_PARAMS)
        assert record is not None
        at = record.body_offset + 8
    data = bytearray(EXAMPLE.read_bytes())
    data[at : at + 8] = (999).to_bytes(8, "little")
    with open_image(bytes(data)) as image:
        mended = repair(image, "4.17")
    assert [str(edit) for edit in mended] == ["remove HVM_PARAMS.999"]
    assert mended.verdict.accepted and mended[0].was == ""


def test_nothing_to_repair_and_a_bare_context() -> None:
    with open_image(EXAMPLE) as image:
        assert repair(image, "4.17") == [] and repair(image, "4.17").verdict.accepted
    context = HvmContext.from_bytes(context_bytes())
    context.entries.pop()
    with open_image(context.to_bytes()) as image:
        mended = repair(image, "newest", guest_of=lambda _: Guest(vcpus=1))
        out = io.BytesIO()
        mended.write(out)
    assert out.getvalue() == context_bytes()


def test_remedies_that_undo_each_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from hvmctx.mend import repair as room

    values = iter(range(1 << 20))

    def turns(image: Image, *how: object, **more: object) -> object:
        return "turns it", [Change("set", "CPU/0.msr_tsc_aux", 1 << 40 | next(values) % 2)]

    monkeypatch.setattr(room, "remedy", turns)
    with open_image(altered(CPU__msr_tsc_aux=1 << 41)) as image:
        mended = room.repair(image, "4.20")
    assert len(mended) == 3 and not mended.verdict.accepted


@pytest.mark.parametrize(
    ("change", "command"),
    [
        (Change("set", "CPU/0.cr4", 16), "hvmctx set 'a b.save' CPU/0.cr4=0x10 -o OUT"),
        (Change("add", "END/0", b""), "hvmctx set 'a b.save' --add END/0= -o OUT"),
        (Change("remove", "PIC/7"), "hvmctx set 'a b.save' --remove PIC/7 -o OUT"),
        (Change("remove", "CPU/0#1"), "hvmctx set 'a b.save' --remove 'CPU/0#1' -o OUT"),
    ],
)
def test_a_change_as_a_command(change: Change, command: str) -> None:
    assert as_command(change, "a b.save") == command


def test_the_front_page_has_it() -> None:
    assert hvmctx.repair is repair


def policy(path: str, value: int | str) -> bytes:
    out = io.BytesIO()
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        editor.set(path, value, add=True)
        editor.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("path", "value", "rule", "step"),
    [
        ("CPUID[0].eax", 0x40, "cpuid-policy-basic", "CPUID[0].eax=0xd"),
        ("CPUID[7,0].eax", 9, "cpuid-policy-subleaf", "CPUID[7,0].eax=0x2"),
        ("CPUID[0x80000000].eax", 0x80000099, "cpuid-policy-extended", "CPUID[0x80000000].eax=0x80000021"),
        ("CPUID[0x24,0]", "1 2 3 4", "cpuid-policy-place", "remove CPUID[0x24,0]"),
        ("MSR[0xce]", 1 << 5 | 1 << 31, "msr-policy-platform", "MSR[0xce]=0x80000000"),
        ("MSR[0xce].flags", 1, "msr-policy-flags", "MSR[0xce].flags=0x0"),
    ],
)  # fmt: skip
def test_a_policy_beyond_the_host(path: str, value: int | str, rule: str, step: str) -> None:
    """Where Xen would refuse the policy; the host is the one of genuine answers."""
    host = held()[0].host
    with open_image(policy(path, value)) as image:
        mended = repair(image, "4.17", host=host)
        assert (mended.before.rule, [str(each) for each in mended]) == (rule, [step])
        assert mended.verdict.accepted and mended[0].reason
        out = io.BytesIO()
        mended.write(out)
    with open_image(out.getvalue()) as image:
        assert repair(image, "4.17", host=host) == []


def test_a_host_and_the_context_with_what_it_leaves_of_the_policy() -> None:
    """cr4 is judged by the clamped policy: UMIP, which this host lacks, may go."""
    full = held()[0].host
    plain = full.as_dict()
    host = Host.from_dict(json.loads(json.dumps(plain)))
    for leaves, _ in host.policies.values():
        leaves[:] = [
            (*row[:4], row[4] & ~(1 << 2), row[5]) if row[:2] == (7, 0) else row for row in leaves
        ]
    with open_image(altered(CPU__cr4=1 << 11 | 0x20)) as image:
        assert repair(image, "4.20", host=full) == []
        mended = repair(image, "4.20", host=host)
    assert [str(each) for each in mended] == ["CPU/0.cr4=0x20"] and mended.verdict.accepted
    with open_image(policy("MSR[0xc0010015]", 1)) as image:
        mended = repair(image, "4.20", host=full)
    assert mended == [] and mended.verdict.rule == "msr-policy-count"
    bare = HvmContext.from_bytes(context_bytes())
    bare.entries.pop()
    with open_image(bare.to_bytes()) as image:  # it gets the host's policy
        assert repair(image, "4.20", host=full).verdict.accepted
        assert repair(image, "4.11", host=full).verdict.accepted
