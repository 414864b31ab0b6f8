from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, LimitError
from hvmctx.limits import Limits
from hvmctx.stream import sexp
from hvmctx.stream.xapi import QemuRecord, Xenops, XenopsRecord, config_of
from tests.builders.wrappers import VM, XENOPS


@given(
    st.text(st.characters(codec="utf-8"), max_size=20), st.integers(-(1 << 62), 1 << 62),
    st.none() | st.binary(max_size=30),
    st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=3),
)  # fmt: skip
def test_what_is_written_is_read(
    time: str, word_size: int, vm: bytes | None, subtree: list[tuple[bytes, bytes]]
) -> None:
    record = Xenops(time, word_size=word_size, vm_str=vm, xs_subtree=subtree)
    again = Xenops.from_text(record.to_text())
    assert (again.time, again.word_size, again.vm_str) == (time, word_size, vm)
    assert again.xs_subtree == subtree and again.to_text() == record.to_text()


def test_what_xenopsd_writes() -> None:
    record = Xenops.from_text(XENOPS)
    assert record.to_text() == XENOPS and record.vm_str == VM
    assert (record.time, record.word_size, record.xs_subtree) == ("20261129T00:00:00Z", 64, [])
    assert "description" in repr(record)
    assert XenopsRecord.from_bytes(XENOPS).to_bytes() == XENOPS


def test_in_the_words_of_xl() -> None:
    vm = Xenops.from_text(XENOPS).vm()
    assert vm is not None
    assert config_of(sexp.places(vm)) == {
        "c_info": {
            "type": "hvm", "name": "web one", "uuid": "434d1235-c58b-99f4-f652-c79d57e50719",
        },
        "b_info": {
            "max_vcpus": 2, "avail_vcpus": [0], "max_memkb": 16384, "target_memkb": 8192,
        },
    }  # fmt: skip
    odd = b"((vcpus 99999999999999999999)(ty(HVM((hap false))))(platformdata((nested-virt true))))"
    config = config_of(sexp.places(sexp.parse(odd)))
    assert config["c_info"] == {"type": "hvm", "name": None, "uuid": None, "hap": False}
    assert config["b_info"] == {
        "max_vcpus": None, "avail_vcpus": None, "max_memkb": None, "target_memkb": None,
        "nested_hvm": True,
    }  # fmt: skip
    assert Xenops("now").vm() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"((time a))", "missing field: found no word_size"),
        (b"((time a)(word_size 64)(extra 1))", "unexpected field: found 'extra'"),
        (b"((time a)(time b)(word_size 64))", "unexpected field"),
        (b"((time a)(word_size x))", "expected a number as word_size"),
        (b"((time(a))(word_size 64))", "found a list as time"),
        (b"((time a)(word_size 64)(vm_str()))", "found a list as vm_str"),
        (b"((time a)(word_size 64)(xs_subtree(a)))", "expected pairs as xs_subtree"),
        (b"((time a)(word_size 64)(xs_subtree((a b c))))", "expected pairs"),
        (b"((time a)(word_size 64)(xs_subtree((a(b)))))", "expected pairs"),
        (b"time", "unexpected field"), (b"((time a b))", "unexpected field"),
        (b"((time a)", "not an S-expression: a list is not closed"),
    ],
)  # fmt: skip
def test_what_xenopsd_refuses(text: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=re.escape(message)) as caught:
        Xenops.from_text(text)
    assert (caught.value.layer, caught.value.record) == ("xapi", "XENOPS")


@pytest.mark.parametrize("number", [b"0x40", b"6_4", b"0b1000000", b"0o100", b"0u64", b"64"])
def test_numbers_as_ocaml_has_them(number: bytes) -> None:
    assert Xenops.from_text(b"((time a)(word_size %s))" % number).word_size == 64


def test_limits() -> None:
    with pytest.raises(LimitError, match="config=N"):
        Xenops.from_text(XENOPS, Limits(config=10))
    with pytest.raises(LimitError, match="rows=N"):
        Xenops.from_text(XENOPS, Limits(rows=3))
    with pytest.raises(LimitError, match=r"vm_str.*rows=N"):
        Xenops.from_text(XENOPS).vm(Limits(rows=10))


def test_whose_file_it_is() -> None:
    upstream, old = QemuRecord(b"QEVM\0\0\0\3"), QemuRecord(b"QEVX")
    assert (upstream.emulator_id, upstream.emulator, upstream.index) == (2, "qemu-upstream", 0)
    assert old.emulator == "qemu-traditional" and old.to_bytes() == b"QEVX"
