from __future__ import annotations

import subprocess
from ctypes import sizeof
from typing import Any

import pytest

from hvmctx.abi import streams
from hvmctx.abi.fields import Layout
from hvmctx.abi.streams import LIBXC, LIBXL, XAPI
from hvmctx.errors import FieldError
from hvmctx.stream import libxc, libxl, xapi
from hvmctx.stream.body import BODIES, Body, Bytes, Rest, Rows, Strings, Words

HEADS = {
    "PAGE_DATA": ["count", "reserved"],
    "X86_PV_INFO": ["guest_width", "pt_levels"],
    "X86_PV_VCPU_BASIC": ["vcpu", "reserved"],
    "SHARED_INFO": ["page"],
    "HVM_PARAMS": ["count", "reserved"],
    "X86_CPUID_POLICY": [],
    "EMULATOR_CONTEXT": ["emulator_id", "index"],
    "CHECKPOINT_STATE": ["id"],
}
SIZES = {
    "PAGE_DATA": 8, "X86_PV_INFO": 8, "X86_PV_P2M_FRAMES": 8, "X86_PV_VCPU_MSRS": 8,
    "SHARED_INFO": 4096, "X86_TSC_INFO": 24, "HVM_PARAMS": 8, "X86_MSR_POLICY": 0,
    "EMULATOR_XENSTORE_DATA": 8, "CHECKPOINT_STATE": 4,
}  # fmt: skip


def test_every_type_with_a_body_is_declared() -> None:
    """Those that have none, the context (records of its own) and the drafts' TOOLSTACK apart."""
    without = {"END", "VERIFY", "CHECKPOINT", "STATIC_DATA_END", "HVM_CONTEXT", "TOOLSTACK",
               "LIBXC_CONTEXT", "CHECKPOINT_END"}  # fmt: skip
    named = {(layer, n) for layer in (LIBXC, LIBXL) for n in streams.RECORDS[layer]}
    declared = {key for key in BODIES if key[0] != XAPI}
    assert {key for key in named if streams.record_name(*key) not in without} == declared
    theirs = {key: body.model for key, body in BODIES.items() if key[0] == XAPI}
    assert [*theirs.values()] == [xapi.XenopsRecord, xapi.QemuRecord]  # others are kept as they are


def test_heads_and_sizes() -> None:
    by_name = {body.name: body for body in BODIES.values()}
    for name, names in HEADS.items():
        assert list(by_name[name].head.names) == names
    for name, size in SIZES.items():
        assert by_name[name].size == size
    assert by_name["PAGE_DATA"].head is streams.PAGE_DATA_HEAD
    for body in BODIES.values():
        assert sizeof(body.head.structure) == body.head.size == Layout.of(body.head.structure).size


@pytest.mark.parametrize(
    ("model", "kind", "element"),
    [(libxc.PvP2mFrames, Words, 8), (libxc.HvmParams, Rows, 16), (libxc.CpuidPolicy, Rows, 24),
     (libxc.PvVcpuBasic, Bytes, 1), (libxl.EmulatorXenstoreData, Strings, 1)],
)  # fmt: skip
def test_what_follows_the_head(model: type[Body], kind: type[Rest], element: int) -> None:
    (rest,) = model.TYPE.rest
    assert isinstance(rest, kind) and rest.element == element
    assert rest.name in model.TYPE.fields


def test_decode_and_encode_by_name() -> None:
    body = libxc.HvmParams.TYPE
    values = body.decode(libxc.HvmParams([(1, 2), (3, 4)]).to_bytes())
    assert values == {"params": [(1, 2), (3, 4)], "reserved": 0}
    assert body.decode(body.encode(values)) == values
    with pytest.raises(FieldError, match=r"^HVM_PARAMS: params\[1\]: value is a 64-bit field"):
        body.encode({"params": [(1, 2), (3, -1)], "reserved": 0})
    with pytest.raises(FieldError, match="HVM_PARAMS: reserved is missing"):
        body.encode({"params": []})


def test_where_fields_lie() -> None:
    assert libxc.TscInfo.TYPE.place("reserved") == (20, 4)
    assert libxc.PvInfo.TYPE.place("reserved") == (2, 6)
    assert libxc.HvmParams.TYPE.place("params") == (8, 0)
    assert libxc.CpuidPolicy.TYPE.row.names[:2] == ("leaf", "subleaf")
    assert repr(libxc.HvmParams.TYPE) == "<body of libxc HVM_PARAMS>"
    assert repr(libxc.HvmParams.TYPE.rest[0]) == "<Rows params>"


def test_models_are_as_dataclasses_are() -> None:
    tsc = libxc.TscInfo(1, 2, 3, incarnation=4)
    assert tsc == libxc.TscInfo.from_bytes(tsc.to_bytes()) != libxc.TscInfo(1, 2, 3, 5)
    assert repr(tsc).startswith("TscInfo(mode=1, ") and repr(tsc).endswith("=4, reserved=0)")
    page = libxc.SharedInfo(bytes(4096))
    assert repr(page) == "SharedInfo(page=<4096 bytes>)"
    tsc.mode = 2
    assert tsc.for_people()["mode"] == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(tsc)
    wrong: Any = libxc.HvmParams
    for values, named, reason in (
        ((), {}, "HvmParams: 'params' is missing"),
        (([], 0, 0), {}, "HvmParams: 3 values, at most 2"),
        (([],), {"params": []}, "'params' is twice there"),
        (([],), {"parms": []}, "'parms' .* is no field"),
    ):
        with pytest.raises(TypeError, match=reason):
            wrong(*values, **named)


def test_what_people_are_shown() -> None:
    assert list(libxc.TscInfo(2, 1, 0, 0, 9).for_people().values()) == [2, 1, 0, 0]


def test_fields_are_named_once() -> None:
    """Outside of the declaration the fields of X86_TSC_INFO stand in words, and in what is made
    of the declaration; of a running Xen they are arguments of the call that tells them."""
    found = subprocess.run(
        ["git", "grep", "-lwE", "khz|nsec|incarnation", "--", "hvmctx", "tools", "benchmarks"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode > 1:
        pytest.skip("not in a git work tree")
    assert sorted(found.stdout.split()) == [
        "hvmctx/data/hvmctx.schema.json", "hvmctx/edit/paths.py", "hvmctx/live/host.py",
        "hvmctx/live/xen.py", "hvmctx/render/describe_text.py", "hvmctx/restore/host.py",
        "hvmctx/restore/placing.py", "hvmctx/stream/libxc.py",
    ]  # fmt: skip
