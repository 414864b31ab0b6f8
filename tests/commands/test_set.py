"""set as a user types them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Slots, VmportState, to_record
from hvmctx.edit.editor import edit
from hvmctx.errors import MissingRecordError, UsageError
from hvmctx.image.image import open_image
from tests.builders.running import Run
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.vmport import OTHER


def test_set(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said = run("set", EXAMPLE, "CPU/0.rax=0x1234", "CPU/0.rbx=5", "-o", out)
    assert (status, said.err) == (0, "")
    assert run("get", out, "CPU.rax", "CPU.rbx")[1].out == "0x1234\n0x5\n"
    assert len(out.read_bytes()) == len(EXAMPLE.read_bytes())
    assert run("set", EXAMPLE, "CPU/0.rax=1", "-o", out)[0] == 1
    status, said = run("set", EXAMPLE, "CPU/0.rax", "-o", out, "--force")
    assert status == 2 and "expected PATH=VALUE" in said.err
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(EXAMPLE.read_bytes()))
    assert run("set", packed, "CPU/0.rax=0x1234", "CPU/0.rbx=5", "-o", tmp_path / "two")[0] == 0
    assert (tmp_path / "two").read_bytes() == out.read_bytes()


def test_set_warns_of_a_refusal(run: Run, tmp_path: Path) -> None:
    status, said = run("set", EXAMPLE, "CPU/0.cr4=0x1000", "-o", tmp_path / "out")
    assert status == 0
    assert said.err == (
        "hvmctx: warning: Xen 4.17 would now refuse the context: CPU/0: cr4 has LA57 (bit 12), "
        "which no guest may set [cpu-cr4]\n"
    )


def test_set_warns_of_keys_beyond_the_slots(run: Run, vmport: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("set", vmport, 'VMPORT.guestinfo["k1"]="w"', "-o", out)[1].err == ""
    status, said = run("set", vmport, 'VMPORT.guestinfo["new"]="w"', "-o", out, "--force")
    assert status == 0
    assert said.err == (
        "hvmctx: warning: VMPORT: the loader takes slot 64 of 64 [vmport-guestinfo-slot]\n"
    )


def test_set_of_another_profile(run: Run, tmp_path: Path) -> None:
    state = VmportState.empty(OTHER)
    state.guestinfo = Slots({b"k": b"value"})
    path, out, profile = tmp_path / "in", tmp_path / "out", tmp_path / "profile.json"
    profile.write_text(OTHER.to_json())
    path.write_bytes(HvmContext([to_record(state, OTHER), Record(0, 0)]).to_bytes())
    what = 'VMPORT.guestinfo["k"]'
    status, said = run("set", path, f'{what}="w"', "-o", out)
    assert status == 0 and "was not a XEN_4_5_V6 record before" in said.err
    how = ("--vmport-profile", profile)
    status, said = run("set", path, f'{what}="longer value"', "-o", out, "--force", *how)
    assert (status, said.err) == (0, "")
    assert run("get", out, what, *how)[1].out == b"longer value".hex() + "\n"


def test_a_refusal_that_was_there_before_is_no_warning(run: Run, tmp_path: Path) -> None:
    """Nor one of the parameters alone, for which the context is not looked at."""
    bad, out = tmp_path / "bad", tmp_path / "out"
    assert "refuse" in run("set", EXAMPLE, "CPU/0.cr4=0x1000", "-o", bad).err
    assert run("set", bad, "CPU/0.rax=1", "-o", out) == (0, ("", ""))
    assert run("set", bad, "HVM_PARAMS.17=5", "-o", out, "--force") == (0, ("", ""))
    assert run("get", out, "HVM_PARAMS.17").out == "0x5\n"


def test_one_bad_setting_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    result = run("set", EXAMPLE, "CPU/0.rax=1", "CPU/0.nope=1", "-o", tmp_path / "out")
    assert result.status == 2 and "no field 'nope'" in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["k1", "k=1", "k]=1"])
def test_keys_and_values_may_hold_an_equals_sign(
    key: str, run: Run, vmport: Path, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", f'VMPORT.guestinfo["{key}"]'
    assert run("set", vmport, f'{path}="a=b"', "-o", out).status == 0
    assert run("get", out, path).out == b"a=b".hex() + "\n"


def test_the_context_is_taken_apart_and_put_together_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many settings there are."""
    done: list[str] = []
    parse, to_bytes = HvmContext.from_bytes.__func__, HvmContext.to_bytes  # type: ignore[attr-defined]

    def counted_parse(kind: type[HvmContext], /, data: bytes, **how: bool) -> HvmContext:
        done.append("parse")
        parsed: HvmContext = parse(kind, data, **how)
        return parsed

    def counted_to_bytes(context: HvmContext) -> bytes:
        done.append("to_bytes")
        return to_bytes(context)

    monkeypatch.setattr(HvmContext, "from_bytes", classmethod(counted_parse))
    monkeypatch.setattr(HvmContext, "to_bytes", counted_to_bytes)
    for number, settings in enumerate((["CPU/0.rax=1"], [f"CPU/0.r{n}={n}" for n in range(8, 16)])):
        done.clear()
        assert run("set", EXAMPLE, *settings, "-o", tmp_path / str(number)).status == 0
        assert done == ["parse", "to_bytes"]


def test_adding_and_removing(tmp_path: Path, run: Run) -> None:
    """What is removed goes first, what is set comes last."""
    words = ("--add", "CPU_MSR/0=0000000000000000", "--remove", "TSC_ADJUST/0")
    status, said = run("set", EXAMPLE, "CPU_MSR/0.count=0x1", *words, "-o", tmp_path / "new")
    assert (status, said.out) == (0, "")
    with open_image(tmp_path / "new") as image:
        context = image.context
        assert ("TSC_ADJUST", 0) not in context
        assert bytes(context["CPU_MSR", 0].body) == b"\1" + bytes(7)
    assert run("set", EXAMPLE, "-o", tmp_path / "none").status == 2
    assert run("set", EXAMPLE, "--remove", "PIC/7", "-o", tmp_path / "none").status != 0
    assert not (tmp_path / "none").exists()


def test_what_is_not_there_is_put_in_if_asked_for(run: Run, tmp_path: Path) -> None:
    """The first line of README about VMPORT, for an image without such a record."""
    out, path = tmp_path / "out", 'VMPORT.guestinfo["guestinfo.ip"]'
    result = run("set", EXAMPLE, f'{path}="10.0.0.1"', "-o", out)
    assert result == (1, ("", "hvmctx: the context has no VMPORT/0 record\n"))
    result = run("set", EXAMPLE, "--add", f'{path}="10.0.0.1"', "-o", out, "CPU/0.rax=5")
    assert result.status == 0 and "[context-type]" in result.err
    assert run("get", out, path, "CPU/0.rax").out == b"10.0.0.1".hex() + "\n0x5\n"
    with open_image(out) as image:
        (record,) = image.context.records("VMPORT")
        state = VmportState.from_bytes(record.body)
        assert state.guestinfo.pairs == [(b"guestinfo.ip", b"10.0.0.1")]
        assert len(state.channels) == 6 and image.context.entries.index(record) == 17


def test_whatever_may_be_added_or_deleted(run: Run, tmp_path: Path) -> None:
    more, less = tmp_path / "more", tmp_path / "less"
    settings = (
        "TSC_ADJUST/1.tsc_adjust=7", "HVM_PARAMS.VIRIDIAN=1", "CPUID[7,1].eax=0x10",
        "MSR[0x10b]=4", "config.b_info.new=[1]",
    )  # fmt: skip
    options = [word for setting in settings for word in ("--add", setting)]
    result = run("set", EXAMPLE, "-o", more, *options)
    assert result.status == 0
    assert sorted(run("diff", EXAMPLE, more).out.splitlines()) == [
        "CPUID[7,1]: only in the second: 00000010 00000000 00000000 00000000",
        "HVM_PARAMS.VIRIDIAN: only in the second: 0x1",
        "MSR[0x10b]: only in the second: 0x4",
        "TSC_ADJUST/1: only in the second: 8 bytes",
        "config.b_info.new: only in the second: [1]",
    ]
    gone = ("config.b_info.new", "HVM_PARAMS.VIRIDIAN", "CPUID[7,1]", "MSR[0x10b]", "TSC_ADJUST/1")
    options = [word for path in gone for word in ("--remove", path)]
    assert run("set", more, *options, "-o", less) == (0, ("", ""))
    assert less.read_bytes() == EXAMPLE.read_bytes()
    for path, status in (("CPU/9", 1), ("CPU/0.rip", 2), ("HVM_PARAMS.VIRIDIAN", 1)):
        result = run("set", EXAMPLE, "--remove", path, "-o", less, "--force")
        assert result.status == status and result.err.count("\n") == 1


def test_nothing_to_do(run: Run, tmp_path: Path) -> None:
    result = run("set", EXAMPLE, "-o", tmp_path / "out")
    assert result == (2, ("", "hvmctx: set: expected PATH=VALUE, --add or --remove\n"))


def test_a_key_is_added_to_the_record_that_is_there(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "vm.hvm", tmp_path / "out"
    context = HvmContext.from_bytes(context_bytes())
    state = VmportState.empty()
    state.guestinfo = Slots({b"a": b"1"})
    context.add(Record(21, 0, state.to_bytes()))
    source.write_bytes(context.to_bytes())
    for key in ('guestinfo["b"]', 'guestinfo_jumbo["a"]', 'guestinfo["a"]#2'):
        path = f"VMPORT.{key}"
        assert run("set", source, "--add", f'{path}="x"', "-o", out, "--force").status == 0
        assert run("get", out, path).out == "78\n"
        assert run("get", out, 'VMPORT.guestinfo["a"]').out == "31\n"
        with open_image(out) as image, pytest.raises(UsageError, match="already"):
            edit(image).add(path, b"y")
    with open_image(source) as image:
        for path in ("VMPORT.ping_time", "VMPORT.chans[0].send", "VMPORT"):
            with pytest.raises(UsageError, match="already"):
                edit(image).add(path, b"1")
        with pytest.raises(MissingRecordError, match="no such key"):
            edit(image).add('VMPORT.guestinfo["a"]#4', b"1")
